// The page of reviews: show two sightings, store whether they are one person, and show what the answers say.
import {
  $, attempt, count, describe, element, forgetPictures, image, openPage, percent, picture, request, showStatus,
  targetPath,
} from "/static/client.js";

const AHEAD = 10; // pairs fetched at a time
const GOAL = 100; // answers that the progress counts to, and then the next hundred
const KEYS = { y: "same", 1: "same", n: "different", 2: "different", c: "cannot tell", 3: "cannot tell" };
const BACK = new Set(["Backspace", "ArrowLeft"]);
const state = { queue: [], past: [], pair: null, run: 0, waiting: 0, sending: Promise.resolve() };

$("reviewer").value = localStorage.getItem("reviewer") ?? "";
$("reviewer").addEventListener("change", () => {
  if (!$("reviewer").reportValidity()) return;
  localStorage.setItem("reviewer", $("reviewer").value);
  openTarget();
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
openPage(start, openTarget);

async function start() {
  $("reviewer-label").hidden = Boolean(sessionStorage.getItem("key"));
  await openTarget();
}

async function openTarget() {
  forgetPictures();
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
  const { pairs } = await request(`${targetPath()}/reviews/next?limit=${AHEAD}${reviewer() ? `&reviewer=${encodeURIComponent(reviewer())}` : ""}`);
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
      await request(`${targetPath()}/reviews`, body);
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
  const made = await request(`${targetPath()}/reviews/estimates`);
  if (run !== state.run) return;
  const goal = GOAL * Math.max(1, Math.ceil(made.answers / GOAL));
  Object.assign($("progress"), { max: goal, value: made.answers });
  $("answered").textContent = `${made.answers} of ${goal}`;
  for (const [from, figures] of [["reviewed", made.reviewed], ["stated", made.stated]])
    for (const name of ["precision", "recall"]) $(`${name}-${from}`).replaceChildren(...shareOf(figures[name]));
  $("about").textContent = `Version ${made.version} marks pairs above a stated probability of ${made.threshold.toFixed(3)}. ` +
    `The sample is drawn from ${candidates(made)} candidate pairs. ` + (made.cannot_tell ? `${made.cannot_tell} could not be told. ` : "");
  $("disputed").hidden = !made.disputed;
  $("disputed-title").textContent = `Reviewers disagree on ${count(made.disputed, "pair")}`;
  if (made.disputed) await showDisputed();
}

async function showDisputed() {
  const { answers } = await request(`${targetPath()}/reviews?disputed=true&limit=500`);
  const pairs = Map.groupBy(answers, ({ first, second }) => `${first} ${second}`);
  $("disputed-pairs").replaceChildren(...[...pairs.values()].map(disputedItem));
}

function disputedItem(answers) {
  const [{ first, second, source }] = answers;
  const verdicts = answers.map(({ reviewer: who, answer: word }) => `${who}: ${word}`).join(", ");
  const button = element("button", {}, "Look again");
  button.addEventListener("click", () => attempt(async () => {
    const [one, other] = await Promise.all([first, second].map((id) => request(`${targetPath()}/sightings/${id}`)));
    if (state.pair) state.queue.unshift(state.pair);
    state.pair = { first: one, second: other, source };
    showPair();
    $("pair-title").focus();
  }));
  const images = [first, second].map((id) => image(id, `Sighting ${id}`));
  return element("li", {}, ...images, element("div", {}, verdicts, element("br"), button));
}

function shareOf(figure) {
  if (!figure) return ["–"];
  return [element("strong", {}, percent(figure.value)), element("span", {}, `[${percent(figure.low)}, ${percent(figure.high)}]`)];
}

function reviewer() { return $("reviewer-label").hidden ? "" : $("reviewer").value; }
function keyOf({ first, second }) { return `${first?.id} ${second?.id}`; }
function candidates({ strata }) { return strata.reduce((sum, { pairs }) => sum + pairs, 0).toLocaleString("en"); }
