// The page: choose a query, search, and draw ranked tracks and sightings, their times and the correspondences.
import {
  $, attempt, byName, cameraName, cameraText, clock, describe, element, forgetPictures, image, localDate, moveByKeys,
  openPage, percent, readSeconds, request, shorten, showStatus, showTimeField, svg, target, targetPath,
} from "/static/client.js";

const PAGE = 24; // stored sightings shown at a time
const SHOWN = 24; // correspondences drawn
const MOST_CROPS = 16; // of a query
const state = { evenOdds: null, query: null, matches: [], chosen: null, last: 0, run: 0 };

$("file").addEventListener("change", () => queryByFiles($("file").files));
$("search").addEventListener("click", search);
$("more").addEventListener("click", () => attempt(showStored));
$("threshold").addEventListener("input", markMatches);
$("even-odds").addEventListener("change", () => { showThresholds(); if (state.query) search(); });
$("camera").addEventListener("change", showWhetherTimesCount);
$("time").addEventListener("input", showWhetherTimesCount);
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
    if (name === "drop") queryByFiles(event.dataTransfer.files);
  });
}
for (const button of $("verdict").children) button.addEventListener("click", () => judge(button));
for (const list of ["results", "stored"]) moveByKeys($(list), "ArrowRight", "ArrowLeft");
openPage(start, openTarget);

async function start({ version, calibrated, threshold, thresholds }) {
  state.evenOdds = { threshold, thresholds };
  $("about").textContent = `model version ${version}` + (calibrated ? "" : ", probabilities not calibrated");
  await openTarget();
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
    const button = element("button", {}, `1 of ${Math.round(1 / threshold.false_match_rate).toLocaleString("en")} pairs`);
    button.addEventListener("click", () => { $("threshold").value = threshold.probability; markMatches(); });
    return button;
  }));
}

async function openTarget() {
  const selected = target();
  forgetPictures();
  Object.assign(state, { query: null, matches: [], chosen: null, last: 0 });
  $("camera").replaceChildren(new Option("unknown", ""), ...selected.cameras.map((camid) => new Option(cameraName({ camid }), camid)));
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
    $("stored").append(element("li", {}, button));
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
  const body = { queries: [query()], top_k: 20, from_s: readSeconds("from"), to_s: readSeconds("to"), even_odds: $("even-odds").checked };
  if (!cameras.every((box) => box.checked)) body.camids = cameras.filter((box) => box.checked).map((box) => Number(box.value));
  await attempt(async () => {
    showStatus("Searching …");
    const began = performance.now();
    const answer = await request(`${targetPath()}/search`, body);
    if (run !== state.run) return;
    state.matches = answer.results[0];
    showStatus(`${state.matches.length} results in ${Math.round(performance.now() - began)} ms`);
    showMatches();
  });
}

function showMatches() {
  for (const id of ["why", "verdict"]) $(id).toggleAttribute("hidden", true);
  $("why-text").textContent = "Choose a result to see which locations of the two images match.";
  $("results").replaceChildren(...state.matches.map((match, index) => {
    const button = pictureButton(match, "");
    button.append(element("span", { class: "caption" }));
    button.addEventListener("click", () => explain(match, button));
    match.button = button;
    match.rank = index + 1;
    return element("li", {}, button);
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
    const likely = element("strong", {}, mark + percent(match.probability));
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
  const queryTime = readSeconds("time");
  const queryCamera = $("camera").value;
  const times = timed.map((match) => match.time_s).concat(queryTime === null ? [] : [queryTime]);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const asked = queryTime !== null && queryCamera !== "" ? [cameraText({ camid: queryCamera })] : [];
  const cameras = [...new Set([...timed.map(cameraText), ...asked])].sort(byName);
  const [left, step] = [78, 26];
  const width = Math.max(180, $("line").clientWidth - left); // one unit is one pixel, so that text stays legible
  const x = (time) => left + 10 + ((time - first) / (last - first || 1)) * (width - 20);
  const y = (camera) => 14 + cameras.indexOf(camera) * step;
  const foot = cameras.length * step + 16;
  const parts = cameras.flatMap((camera) => [
    svg("text", { x: 0, y: y(camera) + 4 }, shorten(camera)),
    svg("line", { class: "rail", x1: left, x2: left + width, y1: y(camera), y2: y(camera) }),
  ]);
  for (const match of timed) {
    const isMatch = match.probability > threshold;
    const dot = svg("circle", { class: `dot ${isMatch ? "match" : ""}`, cx: x(match.time_s), cy: y(cameraText(match)), r: 5 });
    dot.append(svg("title", {}, `rank ${match.rank}, ${percent(match.probability)}, ${describe(match)}`));
    parts.push(dot);
  }
  for (const camera of asked)
    parts.push(svg("line", { class: "query", x1: x(queryTime), x2: x(queryTime), y1: y(camera) - 10, y2: y(camera) + 10 }));
  parts.push(svg("text", { x: left, y: foot }, clock(first)),
    svg("text", { x: left + width, y: foot, "text-anchor": "end" }, clock(last)));
  $("line").setAttribute("viewBox", `0 0 ${left + width} ${foot + 6}`);
  $("line").replaceChildren(...parts);
}

async function explain(match, button) {
  choose($("results"), button);
  const run = state.run;
  await attempt(async () => {
    const body = { query: firstCrop(), sighting: match.id, limit: SHOWN };
    const { correspondences } = await request(`${targetPath()}/explain`, body);
    if (run !== state.run) return;
    state.chosen = match;
    drawWhy(match, correspondences);
    $("verdict").hidden = state.query.sighting === undefined; // an answer is about two stored sightings
    showJudgement();
  });
}

async function judge(button) {
  const { chosen, query: { sighting } } = state;
  const body = { answers: [{ first: sighting, second: chosen.id, answer: button.dataset.answer }], source: "search" };
  const reviewer = localStorage.getItem("reviewer");
  if (reviewer && !sessionStorage.getItem("key")) body.reviewer = reviewer;
  await attempt(async () => {
    await request(`${targetPath()}/reviews`, body);
    chosen.answer = button.dataset.answer;
    showJudgement();
    showStatus(`Stored: the match with sighting ${chosen.id} is ${chosen.answer === "same" ? "right" : "wrong"}.`);
  });
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

function pictureButton(sighting, label) {
  return element("button", { "aria-pressed": "false", ...(label && { "aria-label": label }) }, image(sighting.id));
}

function cameraBox(camid) {
  const box = Object.assign(element("input", { type: "checkbox", value: camid }), { checked: true });
  return element("label", {}, box, ` ${cameraName({ camid })}`);
}

function showWhetherTimesCount() {
  $("lift").textContent = !target().times_count ? "This target does not use times: ranked by appearance alone."
    : $("camera").value !== "" && readSeconds("time") !== null ? "Ranked by appearance and times."
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
  return { ...state.query, camid: $("camera").value === "" ? null : Number($("camera").value), time_s: readSeconds("time") };
}
