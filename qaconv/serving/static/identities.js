// The page of identities: list people, draw one person's journey, and store what a person says about it.
import {
  $, attempt, byName, cameraName, cameraText, clock, count, element, forgetPictures, image, moveByKeys, openPage,
  percent, picture, readSeconds, request, shorten, showStatus, showTimeField, svg, target, targetPath,
} from "/static/client.js";

const PAGE = 30; // people fetched at a time
const SHOWN = 4; // crops of a person in the list
const POLL_MS = 1000;
const UNSURE = 0.5; // a sighting below this probability is marked
const state = { listed: 0, identity: null, chosen: new Set(), run: 0 };

$("filters").addEventListener("change", () => attempt(() => list(true)));
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("more").addEventListener("click", () => attempt(() => list(false)));
$("update").addEventListener("click", () => attempt(update));
$("split").addEventListener("click", () => attempt(split));
$("other").addEventListener("change", () => attempt(compare));
$("merge").addEventListener("submit", (event) => { event.preventDefault(); attempt(merge); });
moveByKeys($("people"), "ArrowDown", "ArrowUp");
openPage(start, openTarget);

async function start() {
  await openTarget();
  const asked = new URLSearchParams(location.search);
  if (asked.get("identity") && asked.get("target") === target().name) await show(Number(asked.get("identity")));
}

async function openTarget() {
  forgetPictures();
  hideJourney();
  $("camera").replaceChildren(new Option("any", ""), ...target().cameras.map((camid) => new Option(cameraName({ camid }), camid)));
  $("cameras").value = 1;
  for (const id of ["from", "to"]) showTimeField($(id));
  showStatus("");
  await attempt(() => list(true));
}

async function list(fromStart) {
  const run = fromStart ? ++state.run : state.run;
  if (fromStart) state.listed = 0;
  const query = new URLSearchParams({ skip: state.listed, limit: PAGE, order: $("order").value });
  for (const [name, value] of [["camids", $("camera").value], ["cameras", $("cameras").value], ["from_s", readSeconds("from")], ["to_s", readSeconds("to")]])
    if (value !== "" && value !== null) query.set(name, value);
  const answer = await request(`${targetPath()}/identities?${query}`);
  if (run !== state.run) return;
  state.listed += answer.identities.length;
  const items = answer.identities.map((identity) => element("li", {}, personButton(identity)));
  if (fromStart) $("people").replaceChildren(...items);
  else $("people").append(...items);
  $("total").textContent = answer.update.updated_s === null ? "" : count(answer.total, "person", "people");
  $("more").hidden = state.listed >= answer.total;
  showUpdate(answer.update);
}

function personButton(identity) {
  const caption = element("span", { class: "caption" }, element("strong", {}, `Person ${identity.identity}`),
    `${count(identity.sightings, "sighting")}, ${count(identity.cameras, "camera")}`, element("br"), `least certain: ${percent(identity.probability)}`);
  const button = element("button", { "aria-pressed": String(identity.identity === state.identity), "data-identity": identity.identity },
    ...identity.images.slice(0, SHOWN).map((id) => image(id)), caption);
  button.addEventListener("click", () => attempt(() => show(identity.identity, true)));
  return button;
}

function showUpdate({ state: doing, wanted, searched, to_search: all, updated_s: updated, fault }) {
  const running = doing !== "idle";
  $("updated").classList.toggle("fault", fault !== null);
  $("updated").textContent = fault !== null ? `The last update failed: ${fault}`
    : doing === "waiting" ? "Waiting for the update of another target …"
    : doing === "searching" ? `Searching for ${searched.toLocaleString("en")} of ${count(all, "new sighting")} …`
    : doing === "clustering" ? "Joining sightings to people …"
    : updated !== null ? `Updated ${dateText(updated)}. New sightings follow by themselves.`
    : wanted ? "An update begins soon." : "Sightings have not been joined to people yet. Once they are, new ones follow by themselves.";
  $("update").disabled = running;
  $("progress").hidden = !running;
  if (doing === "searching") Object.assign($("progress"), { max: all, value: searched });
  else $("progress").removeAttribute("value");
  if (running) follow(state.run);
}

function follow(run) { // look again, and list people when the update has ended
  setTimeout(() => attempt(async () => {
    if (run !== state.run) return;
    const { update: progress } = await request(`${targetPath()}/identities?limit=1`);
    if (run !== state.run) return;
    if (progress.state === "idle") await list(true);
    else showUpdate(progress);
  }), POLL_MS);
}

async function update() {
  showUpdate(await request(`${targetPath()}/identities`, null, "POST"));
}

async function show(identity, focus = false) {
  const journey = await request(`${targetPath()}/identities/${identity}`);
  Object.assign(state, { identity });
  state.chosen.clear();
  for (const button of $("people").querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.dataset.identity) === identity));
  history.replaceState(null, "", `?${new URLSearchParams({ target: target().name, identity })}`);
  const cameras = new Set(journey.visits.map((visit) => cameraName(visit)));
  $("journey-title").textContent = `Person ${identity}`;
  $("summary").textContent = `${count(journey.sightings, "sighting")} in ${count(journey.visits.length, "visit")} on ` +
    `${count(cameras.size, "camera")}; the least certain one belongs to this person with ${percent(journey.probability)}.`;
  $("journey").hidden = false;
  $("other").value = "";
  $("compared").replaceChildren();
  $("visits").replaceChildren(...journey.visits.map(visitItem));
  $("changes").replaceChildren(...journey.changes.map((change) => element("li", {}, describeChange(change))));
  showChosen();
  drawLine(journey.visits);
  if (focus) $("journey-title").focus({ preventScroll: !matchMedia("(max-width: 60rem)").matches });
}

function visitItem(visit) {
  const when = visit.from_s === null ? "time unknown"
    : visit.to_s === visit.from_s ? clock(visit.from_s) : `${clock(visit.from_s)} to ${clock(visit.to_s)}`;
  const crops = visit.members.map((member) => {
    const label = `Sighting ${member.id}, ${cameraText(visit)}, ${member.time_s === null ? when : clock(member.time_s)}, ${percent(member.probability)}`;
    const button = element("button", { "aria-pressed": "false", "aria-label": `${label}; take out`, title: label, ...(member.probability < UNSURE && { class: "unsure" }) },
      image(member.id), percent(member.probability));
    button.addEventListener("click", () => choose(member.id, button));
    return button;
  });
  return element("li", {}, element("span", { class: "when" }, element("strong", {}, cameraText(visit)), when),
    element("span", { class: "crops" }, ...crops));
}

function choose(id, button) {
  if (!state.chosen.delete(id)) state.chosen.add(id);
  button.setAttribute("aria-pressed", String(state.chosen.has(id)));
  showChosen();
}

function showChosen() {
  const { size } = state.chosen;
  const all = $("visits").querySelectorAll(".crops button").length;
  $("split").disabled = !size || size === all;
  $("chosen").textContent = size ? `${count(size, "sighting")} of ${all} chosen${size === all ? "; one must remain" : ", to become a person of their own"}.`
    : "Choose sightings that show somebody else to take them out.";
}

function drawLine(visits) {
  const timed = visits.filter((visit) => visit.from_s !== null);
  $("times").toggleAttribute("hidden", !timed.length);
  if (!timed.length) return;
  const [first, last] = [Math.min(...timed.map((visit) => visit.from_s)), Math.max(...timed.map((visit) => visit.to_s))];
  const lanes = [...new Set(timed.map((visit) => cameraText(visit)))].sort(byName);
  const [left, step, high, wide] = [84, 66, 52, 26];
  const width = Math.max(180, $("line").clientWidth - left); // one unit is one pixel, so that text stays legible
  const x = (seconds) => left + wide + ((seconds - first) / (last - first || 1)) * (width - 2 * wide);
  const y = (lane) => 34 + lanes.indexOf(lane) * step;
  const foot = lanes.length * step + 18;
  const parts = lanes.flatMap((lane) => [
    svg("text", { x: 0, y: y(lane) + 4 }, shorten(lane)),
    svg("line", { class: "rail", x1: left, x2: left + width, y1: y(lane) + high / 2 + 4, y2: y(lane) + high / 2 + 4 }),
  ]);
  const free = new Map(); // where the next crop of a lane has room
  for (const visit of timed) {
    const lane = cameraText(visit);
    const [start, end, base] = [x(visit.from_s), x(visit.to_s), y(lane) + high / 2 + 4];
    const group = svg("g", {});
    group.append(svg("title", {}, `${lane}, ${clock(visit.from_s)}, ${count(visit.sightings, "sighting")}`),
      svg("line", { class: "bar", x1: start, x2: end + 0.01, y1: base, y2: base }));
    const middle = (start + end) / 2;
    if (middle - wide / 2 >= (free.get(lane) ?? 0)) {
      free.set(lane, middle + wide / 2 + 2);
      const place = { x: middle - wide / 2, y: y(lane) - high / 2 - 2, width: wide, height: high };
      const crop = svg("image", { ...place, preserveAspectRatio: "xMidYMid slice" });
      picture(visit.image).then((address) => crop.setAttribute("href", address)).catch(() => {});
      group.append(crop, svg("rect", { ...place, class: "frame" }));
    }
    parts.push(group);
  }
  parts.push(svg("text", { x: left, y: foot }, clock(first)), svg("text", { x: left + width, y: foot, "text-anchor": "end" }, clock(last)));
  $("line").setAttribute("viewBox", `0 0 ${left + width} ${foot + 6}`);
  $("line").replaceChildren(...parts);
}

async function split() {
  const { identity } = await request(`${targetPath()}/identities/${state.identity}/split`, { sightings: [...state.chosen] });
  await showAfter(state.identity, `Taken out: ${count(state.chosen.size, "sighting")}, now person ${identity}.`);
}

async function merge() {
  const other = Number($("other").value);
  await request(`${targetPath()}/identities/${state.identity}/merge`, { other });
  await showAfter(state.identity, `Person ${other} is now part of person ${state.identity}.`);
}

async function showAfter(identity, text) {
  await list(true);
  await show(identity, true);
  showStatus(text);
}

async function compare() {
  $("compared").replaceChildren();
  if (!$("other").value) return;
  const { visits } = await request(`${targetPath()}/identities/${$("other").value}`);
  $("compared").replaceChildren(...visits.slice(0, SHOWN).map((visit) => image(visit.image, `Person ${$("other").value}`)));
}

function describeChange({ kind, other, who, changed_s: changed }) {
  const what = kind === "merge" ? `Person ${other} was joined to it` : `Person ${other} was taken out of it`;
  return `${what} by ${who ?? "an update"}, ${dateText(changed)}`;
}

function dateText(seconds) { return new Date(seconds * 1000).toLocaleString("en-GB"); }

function hideJourney() {
  state.identity = null;
  state.chosen.clear();
  $("journey").hidden = true;
  $("journey-title").textContent = "Journey";
  $("summary").textContent = "Choose a person to see where and when they were seen.";
}
