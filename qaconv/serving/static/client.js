// What pages share: requests with the key, pictures, and how times, cameras and probabilities are written.
export const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const pictures = new Map();

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

export function useKeys(start) { // of the form that a refused request shows
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", $("key").value);
    $("key-form").hidden = true;
    start();
  });
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

export function targetPath(target) { return `/v1/targets/${encodeURIComponent(target.name)}`; }

export function picture(target, id) { // fetched with the key, which an <img> cannot send
  const path = `${targetPath(target)}/sightings/${id}/image`;
  if (!pictures.has(path)) pictures.set(path, request(path).then((blob) => URL.createObjectURL(blob)));
  return pictures.get(path);
}

export function image(target, id, alt = "") {
  const element = Object.assign(new Image(), { alt });
  picture(target, id).then((address) => { element.src = address; }).catch(() => {});
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

export function cameraName(target, { camera, camid }) { return camera ?? target.camera_names[camid] ?? (camid === null ? "unknown" : String(camid)); }

export function cameraText(target, place) {
  const name = cameraName(target, place);
  return Object.keys(target.camera_names).length ? name : `camera ${name}`;
}

export function localDate(seconds) {
  const date = new Date(seconds * 1000);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 23);
}

export function clock(target, seconds) {
  if (target.time_origin) return localDate(seconds).slice(0, 19).replace("T", " ");
  const part = (size, modulus) => String(Math.floor(seconds / size) % modulus).padStart(2, "0");
  return seconds < 0 ? `${seconds} s` : `${Math.floor(seconds / 3600)}:${part(60, 60)}:${part(1, 60)}`;
}

export function percent(share) {
  if (share > 0.9995) return ">\u00a099.9\u00a0%";
  return share < 0.0005 ? "<\u00a00.1\u00a0%" : `${(100 * share).toFixed(1)}\u00a0%`;
}

export function count(number, one, several = `${one}s`) { return `${number.toLocaleString("en")} ${number === 1 ? one : several}`; }
