// Refreshes the parts of a page that move, writes times in the reader's zone, asks before what can't be undone.
// Everything works without it.
"use strict";

const EVERY_MS = 2000;
const written = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  hourCycle: "h23",
});

function writeTimes(within) {
  for (const time of within.querySelectorAll("time:not([data-ago])")) {
    const parts = {};
    for (const part of written.formatToParts(new Date(time.dateTime))) parts[part.type] = part.value;
    time.textContent = `${parts.year}-${parts.month}-${parts.day} ${parts.hour}:${parts.minute}:${parts.second}`;
  }
}

function follow(within) {
  for (const log of within.querySelectorAll("pre[data-follow]")) log.scrollTop = log.scrollHeight;
}

// What has the focus is found again after its surroundings were replaced.
function focused(within) {
  const at = document.activeElement;
  if (!at || !within.contains(at)) return null;
  const like = [...within.querySelectorAll(at.tagName)];
  return { tag: at.tagName, href: at.getAttribute("href"), place: like.indexOf(at) };
}

function refocus(within, before) {
  if (!before) return;
  const like = [...within.querySelectorAll(before.tag)];
  const same = like.find((one) => before.href && one.getAttribute("href") === before.href) || like[before.place];
  if (same) same.focus({ preventScroll: true });
}

function atEnd(log) {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 8;
}

const shown = new Map(); // id of a part that moves -> its HTML as the server sent it

function replace(part) {
  const old = document.getElementById(part.id);
  if (!old || shown.get(part.id) === part.innerHTML) return;
  shown.set(part.id, part.innerHTML);
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && old.contains(selection.anchorNode)) return; // somebody is copying
  const before = focused(old);
  const places = [...old.querySelectorAll("pre[data-follow]")].map((log) => [log.scrollTop, atEnd(log)]);
  const fresh = document.importNode(part, true);
  writeTimes(fresh);
  old.replaceChildren(...fresh.childNodes);
  [...old.querySelectorAll("pre[data-follow]")].forEach((log, number) => {
    const [top, end] = places[number] || [0, true];
    log.scrollTop = end ? log.scrollHeight : top;
  });
  refocus(old, before);
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { "X-Live": "1" }, cache: "no-store" });
  if (answer.status === 401) {
    location.reload(); // the login is over
    return false;
  }
  if (!answer.ok) throw new Error(String(answer.status));
  const text = await answer.text();
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const part of page.querySelectorAll("[data-live][id]")) replace(part);
  return !page.querySelector("[data-still]");
}

function say(text) {
  const place = document.getElementById("freshness");
  if (place && place.textContent !== text) place.textContent = text;
}

async function keepFresh() {
  let failures = 0;
  for (;;) {
    const began = performance.now();
    if (!document.hidden) {
      try {
        if (!(await refresh())) return;
        if (failures) say("");
        failures = 0;
      } catch {
        failures += 1;
        if (failures > 1) say(" · The server does not answer; what is shown may be old.");
      }
    }
    const took = performance.now() - began;
    const pause = Math.max(EVERY_MS, 10 * took, failures ? 5000 : 0);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) {
    event.preventDefault();
    return;
  }
  if (event.target.method !== "post") return;
  for (const button of event.target.querySelectorAll("button")) setTimeout(() => (button.disabled = true)); // once
});

writeTimes(document);
follow(document);
if (document.querySelector("[data-live]") && !document.querySelector("[data-still]")) keepFresh();
