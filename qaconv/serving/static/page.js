// The page: choose a query, search, and draw ranked tracks and sightings, their times and the correspondences.
const $ = (id) => document.getElementById(id);
const PAGE = 24; // stored sightings shown at a time
const SHOWN = 24; // correspondences drawn
const MOST_CROPS = 16; // of a query
const SVG = "http://www.w3.org/2000/svg";
const state = { targets: [], evenOdds: null, query: null, matches: [], chosen: null, pictures: new Map(), last: 0, run: 0 };

$("target").addEventListener("change", openTarget);
$("file").addEventListener("change", () => queryByFiles($("file").files));
$("search").addEventListener("click", search);
$("more").addEventListener("click", showStored);
$("threshold").addEventListener("input", markMatches);
$("even-odds").addEventListener("change", () => { showThresholds(); if (state.query) search(); });
$("camera").addEventListener("change", showWhetherTimesCount);
$("time").addEventListener("input", showWhetherTimesCount);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  start();
});
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
    if (name === "drop") queryByFiles(event.dataTransfer.files);
  });
}
for (const button of $("verdict").children) button.addEventListener("click", () => judge(button));
for (const list of ["results", "stored"]) $(list).addEventListener("keydown", moveByArrows);
start();

async function start() {
  try {
    const answer = await request("/v1/targets");
    $("key-form").hidden = true;
    state.targets = answer.targets;
    state.evenOdds = { threshold: answer.threshold, thresholds: answer.thresholds };
    $("about").textContent = `model version ${answer.version}` + (answer.calibrated ? "" : ", probabilities not calibrated");
    const previous = $("target").value;
    $("target").replaceChildren(...answer.targets.map(
      (target) => new Option(`${target.name} (${target.sightings.toLocaleString("en")})`, target.name)));
    const selected = answer.targets.find(({ name }) => name === previous) ?? answer.targets.find(({ sightings }) => sightings);
    if (selected) $("target").value = selected.name;
    await openTarget();
  } catch (fault) {
    showStatus(fault.message, true);
  }
}

function showThresholds() {
  const fromTarget = target().probability_from === "target";
  const evenOdds = !fromTarget || $("even-odds").checked;
  const { threshold, thresholds } = state.evenOdds;
  $("even-odds").disabled = !fromTarget;
  $("probability-from").textContent = evenOdds
    ? "Probabilities are at even odds, for people as in training: in a gallery, matches are rarer."
    : "Probabilities hold for this target: its gallery, and times where they are known.";
  $("threshold").value = evenOdds ? threshold : target().threshold;
  $("threshold-value").textContent = Number($("threshold").value).toFixed(3);
  $("thresholds").hidden = !evenOdds || !thresholds.length;
  $("thresholds").replaceChildren($("thresholds-title"), ...thresholds.map((threshold) => {
    const button = document.createElement("button");
    button.textContent = `1 of ${Math.round(1 / threshold.false_match_rate).toLocaleString("en")} pairs`;
    button.addEventListener("click", () => { $("threshold").value = threshold.probability; markMatches(); });
    return button;
  }));
}

async function openTarget() {
  const selected = target();
  if (!selected) return showStatus("This key has no target.", true);
  forgetPictures();
  Object.assign(state, { query: null, matches: [], chosen: null, last: 0 });
  $("camera").replaceChildren(new Option("unknown", ""), ...selected.cameras.map((camid) => new Option(cameraName(camid), camid)));
  $("only-cameras").replaceChildren($("only-cameras").firstElementChild, ...selected.cameras.map(cameraBox));
  for (const id of ["stored", "results"]) $(id).replaceChildren();
  for (const id of ["times", "query-images", "why", "verdict"]) $(id).toggleAttribute("hidden", true);
  $("drop-text").hidden = false;
  $("search").disabled = true;
  for (const id of ["time", "from", "to"]) showTimeField($(id));
  showWhetherTimesCount();
  showThresholds();
  showStatus(selected.sightings ? "" : "This target has no sightings yet.");
  await showStored();
}

async function showStored() {
  const { sightings } = await request(`${targetPath()}/sightings?after=${state.last}&limit=${PAGE}`);
  $("more").hidden = sightings.length < PAGE;
  for (const sighting of sightings) {
    const button = pictureButton(sighting, `Search by sighting ${sighting.id}, ${describe(sighting)}`);
    button.addEventListener("click", () => queryBySighting(sighting, button));
    $("stored").append(item(button));
    state.last = sighting.id;
  }
}

function queryBySighting(sighting, button) {
  choose($("stored"), button);
  setQuery({ sighting: sighting.id }, [button.querySelector("img").src]);
  $("camera").value = sighting.camid ?? "";
  $("time").value = sighting.time_s === null ? "" : target().time_origin ? localDate(sighting.time_s) : sighting.time_s;
  showWhetherTimesCount();
  search();
}

async function queryByFiles(files) {
  if (!files.length) return;
  if (files.length > MOST_CROPS) return showStatus(`Choose at most ${MOST_CROPS} crops of one person.`, true);
  const addresses = await Promise.all([...files].map(readAddress));
  choose($("stored"), null);
  setQuery({ images: addresses.map(imageOf) }, addresses);
  const crops = addresses.length > 1 ? `${addresses.length} crops of one person: enter their` : "Enter its";
  showStatus(`${crops} camera and time, if known, and search.`);
}

function readAddress(file) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(file);
  });
}

function imageOf(address) { return address.slice(address.indexOf(",") + 1); }

function setQuery(query, addresses) {
  state.query = query;
  $("query-images").replaceChildren(...addresses.map((src, index) =>
    Object.assign(new Image(), { src, alt: addresses.length > 1 ? `Crop ${index + 1} of the query` : "The query" })));
  $("query-images").hidden = false;
  $("drop-text").hidden = true;
  $("search").disabled = false;
}

async function search() {
  const run = ++state.run;
  const cameras = [...$("only-cameras").querySelectorAll("input")];
  const body = { queries: [query()], top_k: 20, from_s: number("from"), to_s: number("to"), even_odds: $("even-odds").checked };
  if (!cameras.every((box) => box.checked)) body.camids = cameras.filter((box) => box.checked).map((box) => Number(box.value));
  try {
    showStatus("Searching …");
    const began = performance.now();
    const answer = await request(`${targetPath()}/search`, body);
    if (run !== state.run) return;
    state.matches = answer.results[0];
    showStatus(`${state.matches.length} results in ${Math.round(performance.now() - began)} ms`);
    showMatches();
  } catch (fault) {
    showStatus(fault.message, true);
  }
}

function showMatches() {
  for (const id of ["why", "verdict"]) $(id).toggleAttribute("hidden", true);
  $("why-text").textContent = "Choose a result to see which locations of the two images match.";
  $("results").replaceChildren(...state.matches.map((match, index) => {
    const button = pictureButton(match, "");
    const caption = document.createElement("span");
    caption.className = "caption";
    button.append(caption);
    button.addEventListener("click", () => explain(match, button));
    match.button = button;
    match.rank = index + 1;
    return item(button);
  }));
  markMatches();
}

function markMatches() {
  const threshold = Number($("threshold").value);
  $("threshold-value").textContent = threshold.toFixed(3);
  for (const match of state.matches) {
    const isMatch = match.probability > threshold;
    match.button.classList.toggle("match", isMatch);
    const mark = isMatch ? "✓ " : "– ";
    const likely = document.createElement("strong");
    likely.textContent = mark + percent(match.probability);
    match.button.querySelector(".caption").replaceChildren(likely, `${match.rank}. ${describe(match)}`);
    match.button.setAttribute("aria-label",
      `Rank ${match.rank}. ${mark}${percent(match.probability)} ${describe(match)}, ${isMatch ? "a match" : "no match"}; show why`);
  }
  drawTimes(threshold);
}

function drawTimes(threshold) {
  const timed = state.matches.filter((match) => match.time_s !== null);
  $("times").toggleAttribute("hidden", !timed.length);
  if (!timed.length) return;
  const queryTime = number("time");
  const queryCamera = $("camera").value;
  const times = timed.map((match) => match.time_s).concat(queryTime === null ? [] : [queryTime]);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const cameras = [...new Set(timed.map(cameraOf).concat(
    queryTime !== null && queryCamera !== "" ? [cameraName(queryCamera)] : []))]
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const [left, step] = [78, 26];
  const width = Math.max(180, $("line").clientWidth - left); // one unit is one pixel, so that text stays legible
  const x = (time) => left + 10 + ((time - first) / (last - first || 1)) * (width - 20);
  const y = (camera) => 14 + cameras.indexOf(camera) * step;
  const foot = cameras.length * step + 16;
  const parts = cameras.flatMap((camera) => [
    svg("text", { x: 0, y: y(camera) + 4 }, shorten(hasNames() ? camera : `camera ${camera}`)),
    svg("line", { class: "rail", x1: left, x2: left + width, y1: y(camera), y2: y(camera) }),
  ]);
  for (const match of timed) {
    const isMatch = match.probability > threshold;
    const dot = svg("circle", { class: `dot ${isMatch ? "match" : ""}`, cx: x(match.time_s), cy: y(cameraOf(match)), r: 5 });
    dot.append(svg("title", {}, `rank ${match.rank}, ${percent(match.probability)}, ${describe(match)}`));
    parts.push(dot);
  }
  if (queryTime !== null && queryCamera !== "") {
    const row = y(cameraName(queryCamera));
    parts.push(svg("line", { class: "query", x1: x(queryTime), x2: x(queryTime), y1: row - 10, y2: row + 10 }));
  }
  parts.push(svg("text", { x: left, y: foot }, clock(first)),
    svg("text", { x: left + width, y: foot, "text-anchor": "end" }, clock(last)));
  $("line").setAttribute("viewBox", `0 0 ${left + width} ${foot + 6}`);
  $("line").replaceChildren(...parts);
}

async function explain(match, button) {
  choose($("results"), button);
  const run = state.run;
  try {
    const body = { query: firstCrop(), sighting: match.id, limit: SHOWN };
    const { correspondences } = await request(`${targetPath()}/explain`, body);
    if (run !== state.run) return;
    state.chosen = match;
    drawWhy(match, correspondences);
    $("verdict").hidden = state.query.sighting === undefined; // an answer is about two stored sightings
    showJudgement();
  } catch (fault) {
    showStatus(fault.message, true);
  }
}

async function judge(button) {
  const { chosen, query: { sighting } } = state;
  const body = { answers: [{ first: sighting, second: chosen.id, answer: button.dataset.answer }], source: "search" };
  const reviewer = localStorage.getItem("reviewer");
  if (reviewer && !sessionStorage.getItem("key")) body.reviewer = reviewer;
  try {
    await request(`${targetPath()}/reviews`, body);
    chosen.answer = button.dataset.answer;
    showJudgement();
    showStatus(`Stored: the match with sighting ${chosen.id} is ${chosen.answer === "same" ? "right" : "wrong"}.`);
  } catch (fault) {
    showStatus(fault.message, true);
  }
}

function showJudgement() {
  for (const button of $("verdict").children) button.setAttribute("aria-pressed", String(button.dataset.answer === state.chosen?.answer));
}

function drawWhy(match, pairs) {
  const [width, height, gap] = [130, 260, 60];
  const right = width + gap;
  const largest = Math.max(...pairs.map((pair) => Math.abs(pair.share)), 1e-9);
  const parts = [[queryImages()[0].src, 0], [match.button.querySelector("img").src, right]].map(([href, x]) =>
    svg("image", { href, x, y: 0, width, height, preserveAspectRatio: "none" }));
  for (const pair of pairs) {
    const strength = Math.abs(pair.share) / largest;
    const ends = { x1: pair.query[0] * width, y1: pair.query[1] * height, x2: right + pair.gallery[0] * width, y2: pair.gallery[1] * height };
    const kind = pair.share >= 0 ? "for" : "against";
    const line = svg("line", { ...ends, class: kind, "stroke-width": 1 + 2.5 * strength, "stroke-opacity": 0.35 + 0.6 * strength });
    line.append(svg("title", {}, `${pair.share >= 0 ? "+" : ""}${pair.share.toFixed(2)} of the score, cosine ${pair.cosine.toFixed(2)}`));
    parts.push(line);
  }
  const sums = [1, -1].map((sign) => pairs.filter((pair) => pair.share * sign > 0).length);
  $("why-text").textContent = `Sighting ${match.id}, ${describe(match)}: score ${match.score.toFixed(1)}, ` +
    `${percent(match.probability)}. ${queryImages().length > 1 ? "Compared with the query's first crop. " : ""}Of the ${pairs.length} correspondences that change the score most, ${sums[0]} are evidence ` +
    `for one person (solid) and ${sums[1]} against (dashed); a thicker line changes it more.`;
  $("why").setAttribute("viewBox", `0 0 ${right + width} ${height}`);
  $("why").replaceChildren(...parts);
  $("why").toggleAttribute("hidden", false);
  if (matchMedia("(max-width: 60rem)").matches) $("why-title").scrollIntoView({ block: "start" });
}

async function request(path, body) {
  const answer = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: { "X-API-Key": sessionStorage.getItem("key") ?? "", ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  if (answer.ok) return answer.headers.get("content-type").startsWith("image/") ? answer.blob() : answer.json();
  if (answer.status === 401) $("key-form").hidden = false;
  throw new Error((await answer.json().catch(() => ({}))).detail ?? `the service answered ${answer.status}`);
}

function pictureButton(sighting, label) {
  const [button, image] = [document.createElement("button"), document.createElement("img")];
  image.alt = "";
  button.append(image);
  button.setAttribute("aria-pressed", "false");
  if (label) button.setAttribute("aria-label", label);
  picture(sighting.id).then((address) => { image.src = address; }).catch(() => {});
  return button;
}

function picture(id) { // fetched with the key, which an <img> cannot send
  const path = `${targetPath()}/sightings/${id}/image`;
  if (!state.pictures.has(path)) state.pictures.set(path, request(path).then((blob) => URL.createObjectURL(blob)));
  return state.pictures.get(path);
}

function forgetPictures() {
  for (const address of state.pictures.values()) address.then(URL.revokeObjectURL).catch(() => {});
  state.pictures.clear();
}

function moveByArrows(event) {
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const next = step && buttons[buttons.indexOf(document.activeElement) + step];
  if (next) { event.preventDefault(); next.focus(); }
}

function cameraBox(camid) {
  const [label, box] = [document.createElement("label"), document.createElement("input")];
  Object.assign(box, { type: "checkbox", checked: true, value: camid });
  label.append(box, ` ${cameraName(camid)}`);
  return label;
}

function showWhetherTimesCount() {
  $("lift").textContent = !target()?.times_count ? "This target does not use times: ranked by appearance alone."
    : $("camera").value !== "" && number("time") !== null ? "Ranked by appearance and times."
    : "Enter camera and time to rank by times too.";
}

function choose(list, button) {
  for (const each of list.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === button));
}

function queryImages() { return $("query-images").querySelectorAll("img"); }

function firstCrop() {
  const { images, ...rest } = query();
  return images ? { ...rest, image: images[0] } : rest;
}

function query() {
  return { ...state.query, camid: $("camera").value === "" ? null : Number($("camera").value), time_s: number("time") };
}

function item(child) { const element = document.createElement("li"); element.append(child); return element; }
function target() { return state.targets.find(({ name }) => name === $("target").value); }
function targetPath() { return `/v1/targets/${encodeURIComponent($("target").value)}`; }
function number(id) { // seconds; a date of the field is in the browser's zone
  const { type, value } = $(id);
  return value === "" ? null : type === "datetime-local" ? new Date(value).getTime() / 1000 : Number(value);
}
function hasNames() { return Object.keys(target().camera_names).length > 0; }
function cameraName(camid) { return target().camera_names[camid] ?? String(camid); }
function cameraOf(sighting) { return sighting.camera ?? cameraName(sighting.camid); }
function shorten(text) { return text.length > 12 ? `${text.slice(0, 11)}…` : text; }
function showTimeField(input) {
  const isDate = target().time_origin !== "";
  Object.assign(input, { value: "", type: isDate ? "datetime-local" : "number", step: isDate ? "0.001" : "any" });
  input.labels[0].firstChild.textContent = `${input.dataset.label}${isDate ? "" : ", s"} `;
}
function localDate(seconds) {
  const date = new Date(seconds * 1000);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 23);
}
function percent(share) { return share > 0.9995 || share < 0.0005 ? (share > 0.5 ? ">\u00a099.9\u00a0%" : "<\u00a00.1\u00a0%") : `${(100 * share).toFixed(1)}\u00a0%`; }
function describe(sighting) {
  const parts = [`camera ${cameraOf(sighting)}`];
  if (sighting.time_s !== null) parts.push(clock(sighting.time_s));
  if (sighting.track !== null) parts.push(`track ${sighting.track}`);
  if (sighting.sightings?.length > 1) parts.push(`${sighting.sightings.length} sightings`);
  return parts.join(", ");
}
function clock(seconds) {
  if (target().time_origin) return localDate(seconds).slice(0, 19).replace("T", " ");
  const part = (size, modulus) => String(Math.floor(seconds / size) % modulus).padStart(2, "0");
  return seconds < 0 ? `${seconds} s` : `${Math.floor(seconds / 3600)}:${part(60, 60)}:${part(1, 60)}`;
}
function showStatus(text, fault = false) { $("status").textContent = text; $("status").classList.toggle("fault", fault); }
function svg(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
