// What pages share: the target, requests with the key, pictures, and how times, cameras and probabilities are written.
export const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const pictures = new Map();
let targets = [];

export function openPage(start, openTarget) { // start gets the answer with the targets, again after a key was entered
  const load = () => attempt(async () => start(await loadTargets()));
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", $("key").value);
    load();
  });
  $("target").addEventListener("change", () => {
    history.replaceState(null, "", `?${new URLSearchParams({ target: target().name })}`);
    linkPages();
    attempt(openTarget);
  });
  load();
}

async function loadTargets() {
  const answer = await request("/v1/targets");
  $("key-form").hidden = true;
  targets = answer.targets;
  const wanted = $("target").value || new URLSearchParams(location.search).get("target");
  $("target").replaceChildren(...targets.map(({ name, sightings }) => new Option(`${name} (${sightings.toLocaleString("en")})`, name)));
  const selected = targets.find(({ name }) => name === wanted) ?? targets.find(({ sightings }) => sightings) ?? targets[0];
  if (!selected) throw new Error("This key has no target.");
  $("target").value = selected.name;
  linkPages();
  return answer;
}

function linkPages() {
  for (const link of document.querySelectorAll("nav a")) link.search = new URLSearchParams({ target: target().name });
}

export function target() { return targets.find(({ name }) => name === $("target").value); }

export function targetPath() { return `/v1/targets/${encodeURIComponent(target().name)}`; }

export async function request(path, body, method = body ? "POST" : "GET") {
  const answer = await fetch(path, {
    method,
    headers: { "X-API-Key": sessionStorage.getItem("key") ?? "", ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  if (answer.ok) return answer.headers.get("content-type").startsWith("image/") ? answer.blob() : answer.json();
  if (answer.status === 401) $("key-form").hidden = false;
  throw new Error((await answer.json().catch(() => ({}))).detail ?? `the service answered ${answer.status}`);
}

export async function attempt(work) {
  try {
    await work();
  } catch (fault) {
    showStatus(fault.message, true);
  }
}

export function showStatus(text, fault = false) {
  $("status").textContent = text;
  $("status").classList.toggle("fault", fault);
}

export function picture(id) { // fetched with the key, which an <img> cannot send
  const path = `${targetPath()}/sightings/${id}/image`;
  if (!pictures.has(path)) pictures.set(path, request(path).then((blob) => URL.createObjectURL(blob)));
  return pictures.get(path);
}

export function image(id, alt = "") {
  const element = Object.assign(new Image(), { alt });
  picture(id).then((address) => { element.src = address; }).catch(() => {});
  return element;
}

export function forgetPictures() {
  for (const address of pictures.values()) address.then(URL.revokeObjectURL).catch(() => {});
  pictures.clear();
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function cameraName({ camera, camid }) { return camera ?? target().camera_names[camid] ?? (camid === null ? "unknown" : String(camid)); }

export function cameraText(place) {
  const name = cameraName(place);
  return Object.keys(target().camera_names).length ? name : `camera ${name}`;
}

export function byName(one, other) { return one.localeCompare(other, "en", { numeric: true }); }

export function shorten(text) { return text.length > 12 ? `${text.slice(0, 11)}…` : text; }

export function describe(sighting) {
  const parts = [cameraText(sighting)];
  if (sighting.time_s !== null) parts.push(clock(sighting.time_s));
  if (sighting.track !== null) parts.push(`track ${sighting.track}`);
  if (sighting.sightings?.length > 1) parts.push(`${sighting.sightings.length} sightings`);
  return parts.join(", ");
}

export function localDate(seconds) {
  const date = new Date(seconds * 1000);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 23);
}

export function clock(seconds) {
  if (target().time_origin) return localDate(seconds).slice(0, 19).replace("T", " ");
  const part = (size, modulus) => String(Math.floor(seconds / size) % modulus).padStart(2, "0");
  return seconds < 0 ? `${seconds} s` : `${Math.floor(seconds / 3600)}:${part(60, 60)}:${part(1, 60)}`;
}

export function percent(share) {
  if (share > 0.9995) return ">\u00a099.9\u00a0%";
  return share < 0.0005 ? "<\u00a00.1\u00a0%" : `${(100 * share).toFixed(1)}\u00a0%`;
}

export function count(number, one, several = `${one}s`) { return `${number.toLocaleString("en")} ${number === 1 ? one : several}`; }

export function showTimeField(input) {
  const isDate = target().time_origin !== "";
  Object.assign(input, { value: "", type: isDate ? "datetime-local" : "number", step: isDate ? "0.001" : "any" });
  input.labels[0].firstChild.textContent = `${input.dataset.label}${isDate ? "" : ", s"} `;
}

export function readSeconds(id) { // a date of the field is in the browser's zone
  const { type, value } = $(id);
  return value === "" ? null : type === "datetime-local" ? new Date(value).getTime() / 1000 : Number(value);
}

export function moveByKeys(list, next, previous) { // from button to button
  list.addEventListener("keydown", (event) => {
    const buttons = [...list.querySelectorAll("button")];
    const step = { [next]: 1, [previous]: -1 }[event.key];
    const button = step && buttons[buttons.indexOf(document.activeElement) + step];
    if (button) { event.preventDefault(); button.focus(); }
  });
}
