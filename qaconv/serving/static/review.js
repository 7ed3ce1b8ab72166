// The page of reviews: show two sightings, store whether they are one person, and show what the answers say.
const $ = (id) => document.getElementById(id);
const AHEAD = 10; // pairs fetched at a time
const GOAL = 100; // answers that the progress counts to, and then the next hundred
const KEYS = { y: "same", 1: "same", n: "different", 2: "different", c: "cannot tell", 3: "cannot tell" };
const BACK = new Set(["Backspace", "ArrowLeft"]);
const state = { targets: [], queue: [], past: [], pair: null, pictures: new Map(), run: 0, waiting: 0, sending: Promise.resolve() };

$("target").addEventListener("change", openTarget);
$("reviewer").value = localStorage.getItem("reviewer") ?? "";
$("reviewer").addEventListener("change", () => {
  if (!$("reviewer").reportValidity()) return;
  localStorage.setItem("reviewer", $("reviewer").value);
  openTarget();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  start();
});
for (const button of $("answers").querySelectorAll("[data-answer]")) button.addEventListener("click", () => answer(button.dataset.answer));
$("undo").addEventListener("click", back);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input, select")) return;
  if (KEYS[event.key.toLowerCase()]) answer(KEYS[event.key.toLowerCase()]);
  else if (BACK.has(event.key)) back();
  else return;
  event.preventDefault();
});
start();

async function start() {
  await attempt(async () => {
    const { targets } = await request("/v1/targets");
    $("key-form").hidden = true;
    $("reviewer-label").hidden = Boolean(sessionStorage.getItem("key"));
    state.targets = targets;
    const previous = $("target").value || new URLSearchParams(location.search).get("target");
    $("target").replaceChildren(...targets.map(({ name, sightings }) => new Option(`${name} (${sightings.toLocaleString("en")})`, name)));
    const selected = targets.find(({ name }) => name === previous) ?? targets.find(({ sightings }) => sightings);
    if (selected) $("target").value = selected.name;
    await openTarget();
  });
}

async function openTarget() {
  if (!target()) return showStatus("This key has no target.", true);
  for (const address of state.pictures.values()) address.then(URL.revokeObjectURL).catch(() => {});
  state.pictures.clear();
  Object.assign(state, { queue: [], past: [], pair: null, run: state.run + 1 });
  showPair();
  showStatus("Drawing pairs …");
  await attempt(async () => {
    await fill();
    advance();
    await showEstimates();
    showStatus("");
  });
}

async function fill() {
  const { run } = state;
  const { pairs } = await request(`${path()}/reviews/next?limit=${AHEAD}${reviewer() ? `&reviewer=${encodeURIComponent(reviewer())}` : ""}`);
  if (run !== state.run) return;
  const seen = new Set([...state.past, ...state.queue, state.pair ?? []].map(keyOf));
  state.queue.push(...pairs.filter((pair) => !seen.has(keyOf(pair))));
  for (const pair of state.queue.slice(0, 3)) for (const sighting of [pair.first, pair.second]) picture(sighting.id).catch(() => {});
}

function advance() {
  state.pair = state.queue.shift() ?? null;
  showPair();
}

function answer(value) { // the next pair is shown at once; answers are sent in turn
  const { pair, run } = state;
  if (!pair) return;
  pair.answer = value;
  state.past.push(pair);
  advance();
  state.waiting += 1;
  state.sending = state.sending.then(() => send(pair, value, run));
}

async function send(pair, value, run) {
  state.waiting -= 1;
  if (run !== state.run) return;
  await attempt(async () => {
    const body = { answers: [{ first: pair.first.id, second: pair.second.id, answer: value }], source: pair.source ?? "sample" };
    if (reviewer()) body.reviewer = reviewer();
    try {
      await request(`${path()}/reviews`, body);
    } catch (fault) {
      showAgain(pair);
      throw fault;
    }
    showStatus(`Stored: ${{ same: "yes", different: "no", "cannot tell": "cannot tell" }[value]}.`);
    if (state.queue.length < 2) await fill();
    if (!state.pair) advance();
    if (!state.waiting) await showEstimates();
  });
}

function showAgain(pair) {
  state.past = state.past.filter((other) => other !== pair);
  delete pair.answer;
  if (state.pair && state.pair !== pair) state.queue.unshift(state.pair);
  state.pair = pair;
  showPair();
}

function back() {
  if (!state.past.length) return;
  if (state.pair) state.queue.unshift(state.pair);
  state.pair = state.past.pop();
  showPair();
  showStatus("The pair before; a further answer replaces yours.");
}

function showPair() {
  const { pair } = state;
  $("pair").hidden = !pair;
  $("done").hidden = Boolean(pair) || !state.past.length;
  $("done").textContent = "All pairs are answered.";
  for (const button of $("answers").querySelectorAll("[data-answer]")) {
    button.disabled = !pair;
    button.setAttribute("aria-pressed", String(button.dataset.answer === pair?.answer));
  }
  $("undo").disabled = !state.past.length;
  if (!pair) return;
  for (const side of ["first", "second"]) {
    $(side).removeAttribute("src");
    $(side).alt = `The ${side} sighting, ${describe(pair[side])}`;
    $(`${side}-caption`).textContent = describe(pair[side]);
    picture(pair[side].id).then((address) => { if (state.pair === pair) $(side).src = address; }).catch(() => {});
  }
}

async function showEstimates() {
  const { run } = state;
  const made = await request(`${path()}/reviews/estimates`);
  if (run !== state.run) return;
  const goal = GOAL * Math.max(1, Math.ceil(made.answers / GOAL));
  Object.assign($("progress"), { max: goal, value: made.answers });
  $("answered").textContent = `${made.answers} of ${goal}`;
  for (const [from, figures] of [["reviewed", made.reviewed], ["stated", made.stated]])
    for (const name of ["precision", "recall"]) $(`${name}-${from}`).replaceChildren(...shareOf(figures[name]));
  $("about").textContent = `Version ${made.version} marks pairs above a stated probability of ${made.threshold.toFixed(3)}. ` +
    `The sample is drawn from ${candidates(made)} candidate pairs. ` + (made.cannot_tell ? `${made.cannot_tell} could not be told. ` : "");
  $("disputed").hidden = !made.disputed;
  $("disputed-title").textContent = `Reviewers disagree on ${made.disputed} ${made.disputed === 1 ? "pair" : "pairs"}`;
  if (made.disputed) await showDisputed();
}

async function showDisputed() {
  const { answers } = await request(`${path()}/reviews?disputed=true&limit=500`);
  const pairs = Map.groupBy(answers, ({ first, second }) => `${first} ${second}`);
  $("disputed-pairs").replaceChildren(...[...pairs.values()].map(disputedItem));
}

function disputedItem(answers) {
  const [{ first, second, source }] = answers;
  const [item, text, button] = ["li", "div", "button"].map((name) => document.createElement(name));
  const images = [first, second].map((id) => {
    const image = Object.assign(new Image(), { alt: `Sighting ${id}` });
    picture(id).then((address) => { image.src = address; }).catch(() => {});
    return image;
  });
  text.textContent = answers.map(({ reviewer: who, answer: said }) => `${who}: ${said}`).join(", ");
  button.textContent = "Look again";
  button.addEventListener("click", () => attempt(async () => {
    const [one, other] = await Promise.all([first, second].map((id) => request(`${path()}/sightings/${id}`)));
    if (state.pair) state.queue.unshift(state.pair);
    state.pair = { first: one, second: other, source };
    showPair();
    $("pair-title").focus();
  }));
  text.append(document.createElement("br"), button);
  item.append(...images, text);
  return item;
}

function shareOf(figure) {
  if (!figure) return ["–"];
  const [strong, span] = [document.createElement("strong"), document.createElement("span")];
  strong.textContent = percent(figure.value);
  span.textContent = `[${percent(figure.low)}, ${percent(figure.high)}]`;
  return [strong, span];
}

async function attempt(work) {
  try {
    await work();
  } catch (fault) {
    showStatus(fault.message, true);
  }
}

async function request(address, body) {
  const answer = await fetch(address, {
    method: body ? "POST" : "GET",
    headers: { "X-API-Key": sessionStorage.getItem("key") ?? "", ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  if (answer.ok) return answer.headers.get("content-type").startsWith("image/") ? answer.blob() : answer.json();
  if (answer.status === 401) $("key-form").hidden = false;
  throw new Error((await answer.json().catch(() => ({}))).detail ?? `the service answered ${answer.status}`);
}

function picture(id) { // fetched with the key, which an <img> cannot send
  if (!state.pictures.has(id)) state.pictures.set(id, request(`${path()}/sightings/${id}/image`).then((blob) => URL.createObjectURL(blob)));
  return state.pictures.get(id);
}

function target() { return state.targets.find(({ name }) => name === $("target").value); }
function path() { return `/v1/targets/${encodeURIComponent($("target").value)}`; }
function reviewer() { return $("reviewer-label").hidden ? "" : $("reviewer").value; }
function keyOf({ first, second }) { return `${first?.id} ${second?.id}`; }
function candidates({ strata }) { return strata.reduce((sum, { pairs }) => sum + pairs, 0).toLocaleString("en"); }
function percent(share) { return `${(100 * share).toFixed(1)}\u00a0%`; }
function describe({ camera, camid, time_s: time, track }) {
  const parts = [`camera ${camera ?? target().camera_names[camid] ?? camid}`];
  if (time !== null) parts.push(clock(time));
  if (track) parts.push(`track ${track}`);
  return parts.join(", ");
}
function clock(seconds) {
  if (target().time_origin) {
    const date = new Date(seconds * 1000);
    return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19).replace("T", " ");
  }
  const part = (size, modulus) => String(Math.floor(seconds / size) % modulus).padStart(2, "0");
  return seconds < 0 ? `${seconds} s` : `${Math.floor(seconds / 3600)}:${part(60, 60)}:${part(1, 60)}`;
}
function showStatus(text, fault = false) { $("status").textContent = text; $("status").classList.toggle("fault", fault); }
