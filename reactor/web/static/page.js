// Keeps the page up to date. The server says that something changed; then this asks for the same page again, and changes
// only what differs, so that focus, scroll and whatever is open stay. Without this file the page works as well.

const DEBOUNCE = 600; // milliseconds between two looks
const FLASH = 8000; // milliseconds for which the answer to an action is shown
const AGAIN = 10000; // milliseconds until a closed stream is opened again

const state = { source: null, said: null, paused: sessionStorage.getItem("updates") === "paused", loading: false, again: false, last: 0 };
const begun = new WeakMap(); // of a ticking element: what the server said, and when

// Asks with XMLHttpRequest, because it gives a document. Trusted Types let no script parse HTML by other means.
function ask(method, url, body) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    request.responseType = "document";
    request.setRequestHeader("accept", "text/html");
    if (body) request.setRequestHeader("content-type", "application/x-www-form-urlencoded");
    request.onload = () => (request.response ? resolve(request) : reject(new Error("no page")));
    request.onerror = () => reject(new Error("no answer"));
    request.send(body ?? null);
  });
}

async function refresh() {
  if (state.paused || document.hidden) return;
  if (state.loading) { state.again = true; return; }
  state.loading = true;
  try {
    await new Promise((done) => setTimeout(done, Math.max(0, state.last + DEBOUNCE - performance.now())));
    if (state.paused || document.hidden) return;
    const here = location.href;
    const answer = await ask("GET", here);
    if (answer.status === 401) { location.reload(); return; }
    if (!state.paused && here === location.href) show(answer.response);
  } catch {
    told("Reconnecting", "lost");
  } finally {
    state.last = performance.now();
    state.loading = false;
    if (state.again) { state.again = false; refresh(); }
  }
}

function show(page) {
  if (document.title !== page.title) document.title = page.title;
  morph(document.body, page.body);
  dress();
}

function morph(from, to) {
  if (from.isEqualNode(to)) return;
  if (from.nodeType !== Node.ELEMENT_NODE) { from.data = to.data; return; }
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !isOurs(from, name)) from.removeAttribute(name);
  let next = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const match = partner(from, next, wanted);
    if (!match) { from.insertBefore(document.importNode(wanted, true), next); continue; }
    if (match === next) next = next.nextSibling; else from.insertBefore(match, next);
    if (!isKept(match)) morph(match, wanted);
  }
  while (next) { const after = next.nextSibling; if (!isKept(next)) next.remove(); next = after; }
}

// Whether only this script changes the node: data-js marks it, and has no value.
const isKept = (node) => node.dataset?.js !== undefined;

// The node that becomes the wanted one: that with its id, else the next one of its kind.
function partner(parent, next, wanted) {
  if (wanted.id) {
    const known = document.getElementById(wanted.id);
    return known?.parentNode === parent && known.nodeName === wanted.nodeName ? known : null;
  }
  return next && !next.id && next.nodeName === wanted.nodeName ? next : null;
}

const isOurs = (element, name) => name === "open" && /^(DETAILS|DIALOG)$/.test(element.nodeName);

function dress() {
  const live = document.body.dataset.events !== undefined;
  for (const element of document.querySelectorAll("button[data-js]")) element.hidden = element.id === "updates" && !live;
  for (const element of document.querySelectorAll("[data-seconds]")) {
    const said = element.dataset.seconds;
    if (begun.get(element)?.said !== said) begun.set(element, { said, at: performance.now() });
  }
  if (state.said) told(...state.said); // of a button that came with the page
  tick();
}

function tick() {
  if (state.paused) return;
  for (const element of document.querySelectorAll("[data-seconds]")) {
    const { said, at } = begun.get(element) ?? { said: element.dataset.seconds, at: performance.now() };
    const gone = (performance.now() - at) / 1000;
    const words = duration(Math.max(0, element.dataset.counts === "down" ? said - gone : +said + gone));
    if (element.textContent !== words) element.textContent = words;
  }
}

function duration(seconds) {
  for (const [size, unit, most] of [[1, "s", 90], [60, "min", 90], [3600, "h", 48]]) {
    const rounded = Math.ceil(seconds / size);
    if (rounded < most) return `${rounded} ${unit}`;
  }
  return `${Math.ceil(seconds / 86400).toLocaleString("en")} d`;
}

function told(words, kind) {
  state.said = [words, kind];
  const button = document.getElementById("updates");
  if (!button) return;
  button.querySelector(".word").textContent = words;
  button.className = `quiet ${kind}`;
  button.setAttribute("aria-pressed", String(state.paused));
}

function connect() {
  state.source?.close();
  state.source = null;
  const url = document.body.dataset.events;
  if (state.paused) { told("Updates are paused", "paused"); return; }
  if (!url || document.hidden) return;
  const source = new EventSource(url);
  state.source = source;
  source.onopen = () => { told("Live", "live"); refresh(); };
  source.addEventListener("changed", refresh);
  source.addEventListener("ends", connect); // no stream lasts for long
  source.onerror = () => {
    told("Reconnecting", "lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (state.source === source) connect(); }, AGAIN);
  };
}

function toggle() {
  state.paused = !state.paused;
  sessionStorage.setItem("updates", state.paused ? "paused" : "live");
  connect();
}

// Sends a form without leaving the page; the answer is the page that the server leads back to.
async function send(form, submitter) {
  const fields = new URLSearchParams(new FormData(form, submitter));
  if (submitter) submitter.disabled = true;
  try {
    const answer = await ask("POST", form.action, fields);
    if (answer.status === 401) { location.reload(); return; }
    if (answer.status < 400) history.replaceState(null, "", answer.responseURL);
    document.querySelector("#flash .said")?.remove(); // the answer to an action before
    show(answer.response);
    forgetTheFlash();
  } catch {
    form.submit();
  } finally {
    if (submitter) submitter.disabled = false;
  }
}

function forgetTheFlash() {
  const url = new URL(location.href);
  if (!url.searchParams.has("done")) return;
  for (const name of ["done", "count", "locked"]) url.searchParams.delete(name);
  history.replaceState(null, "", url);
  const flash = document.querySelector("#flash .said");
  flash?.setAttribute("data-js", ""); // looks leave it alone
  setTimeout(() => flash?.remove(), FLASH);
}

const keys = {
  "?": () => document.getElementById("keys")?.showModal(),
  "u": toggle,
  "/": () => document.getElementById("matching")?.focus(),
  "a": () => document.getElementById("tab-all")?.click(),
  "f": () => document.getElementById("tab-failed")?.click(),
  "ArrowRight": () => walk(1),
  "ArrowLeft": () => walk(-1),
};

function walk(step) {
  const frames = [...document.querySelectorAll(".gallery .frame")];
  const at = frames.indexOf(document.activeElement);
  frames[at < 0 ? 0 : Math.min(frames.length - 1, Math.max(0, at + step))]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, dialog")) return;
  const act = keys[event.key];
  if (act) { event.preventDefault(); act(); }
});
document.addEventListener("click", (event) => {
  if (event.target.closest?.("#updates")) toggle();
  if (event.target.closest?.("#help")) keys["?"]();
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches?.("form[data-live]")) return;
  event.preventDefault();
  send(event.target, event.submitter);
});
document.addEventListener("error", (event) => {
  if (event.target.nodeName === "IMG") event.target.closest(".card")?.classList.add("broken");
}, true);
document.addEventListener("visibilitychange", connect);
addEventListener("pagehide", () => { state.source?.close(); state.source = null; });
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
setInterval(tick, 1000);
dress();
forgetTheFlash();
connect();
