"use strict";

/* One page, three views: start, work, finish. What a person has typed but not yet sent lives in `draft`, which is also kept in
   the browser's storage, so that a reload or a server that went away loses nothing. All text enters the page as text. */

const $ = (id) => document.getElementById(id);
const LETTERS = ["A", "B"];
const state = { start: null, annotator: "", place: null, draft: null, sending: false, since: 0, drafts: "" };

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") node.className = value;
    else if (key in node && typeof value !== "string") node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/* Storage may be switched off; then drafts last as long as the page. */
const memory = {
  read(key) { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } },
  write(key, value) { try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* the page itself still holds it */ } },
  drop(key) { try { localStorage.removeItem(key); } catch { /* nothing was kept */ } },
};

/* ---- talking to the server ---- */

async function call(path, body) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The server does not answer. Nothing you wrote is lost: start it again, open the address it prints, or try again here.");
  }
  let data;
  try { data = await response.json(); } catch { throw new Error(`The server answered with something unreadable (${response.status}). Try again.`); }
  if (response.status === 403) throw new Error("The server was started anew. Open the address it printed; what you wrote is kept.");
  if (!response.ok) throw new Error(data.error || `The server refused (${response.status}).`);
  return data;
}

function alertUser(message) {
  $("alert").textContent = message || "";
  $("alert").hidden = !message;
}

async function attempt(deed) {
  if (state.sending) return;
  state.sending = true;
  try {
    await deed();
    alertUser("");
  } catch (error) {
    alertUser(error.message);
  } finally {
    state.sending = false;
  }
}

/* ---- views ---- */

function view(name) {
  for (const id of ["start", "work", "finish"]) $(id).hidden = id !== name;
  $("top").hidden = name === "start";
  document.body.dataset.view = name;
}

async function showStart() {
  state.start = await call("/api/start");
  const { annotators, given, needed, title } = state.start;
  view("start");
  $("title").textContent = title;
  $("people").hidden = !annotators.length;
  $("people-list").replaceChildren(...annotators.map(({ name, answers }) => {
    const button = el("button", { type: "button" }, name, el("small", {}, `${answers} judged`));
    button.addEventListener("click", () => attempt(() => enter(name)));
    return button;
  }));
  $("start-count").textContent = `${given} of ${needed} answers have been given so far.`;
  $("name").focus();
}

async function enter(name) {
  const place = await call("/api/annotators", { annotator: name });
  state.annotator = name;
  memory.write("harmgym-annotator", name);
  $("who").textContent = name;
  $("who").setAttribute("aria-label", `You are ${name}. Change annotator`);
  show(place);
}

function show(place, earlier) {
  state.place = place;
  const { current, done, left } = place;
  const all = done + left;
  $("count").textContent = `${done} of ${all}`;
  $("progress").setAttribute("aria-valuemax", all);
  $("progress").setAttribute("aria-valuenow", done);
  $("progress").firstElementChild.style.width = `${all ? (100 * done) / all : 0}%`;
  $("undo").disabled = $("finish-undo").disabled = !done;
  if (!current) return showFinish(done);
  view("work");
  openDraft(current, earlier);
  fill(current);
  restore();
  preload(place.following);
  window.scrollTo(0, 0);
  $("situation").focus({ preventScroll: true });
  $("said").textContent = `Pair ${done + 1} of ${all}`;
}

function showFinish(done) {
  view("finish");
  $("finish-text").textContent = `You judged ${done} ${done === 1 ? "pair" : "pairs"}; every answer is kept. You may close this page.`;
  $("finish-title").focus();
}

function preload(item) {
  if (!item) return;
  for (const option of item.options) for (const step of option.steps.slice(0, 8)) if (step.picture) new Image().src = step.picture;
}

/* ---- one pair ---- */

function fill(item) {
  $("text").textContent = item.text;
  $("facts").hidden = !item.state.length && !item.constraints.length;
  const facts = item.state.length + item.constraints.length;
  $("facts-count").textContent = `${facts} ${facts === 1 ? "fact" : "facts"}`;
  list($("state"), item.state);
  list($("constraints"), item.constraints);
  $("limits").hidden = !item.constraints.length;
  $("facts").querySelector(".facts").classList.toggle("alone", !item.constraints.length);
  item.options.forEach((option, at) => fillOption($(`option-${at}`), option, at));
}

function list(node, lines) {
  node.hidden = !lines.length;
  node.replaceChildren(...lines.map((line) => el("li", {}, line)));
}

function fillOption(card, option, at) {
  const pictures = option.steps.filter((step) => step.picture);
  card.replaceChildren(
    el("h2", { id: `head-${at}` }, el("span", { class: "letter", "aria-hidden": "true" }, LETTERS[at]), `Recovery ${LETTERS[at]}`),
    ...(option.text ? [el("div", { class: "plan" }, ...option.text.split(/\n{2,}/).map((part) => el("p", {}, part)))] : []),
    ...(pictures.length ? [strip(pictures, at)] : []),
    ...(option.steps.length ? stepList(option.steps) : []),
    ...(option.report ? [el("h3", {}, "What it reported"), el("blockquote", {}, option.report)] : []),
    ...(option.outcome.length ? [el("h3", {}, "What was found afterwards"), outcome(option.outcome)] : []),
    ...(state.start.ratings.length ? [ratings(at)] : []),
  );
}

function strip(steps, at) {
  const shots = steps.map((step, index) => {
    const button = el("button", { type: "button", class: "shot", "aria-label": `Enlarge picture ${index + 1} of ${steps.length}: ${step.caption}` },
      el("img", { src: step.picture, alt: "", loading: index < 6 ? "eager" : "lazy", width: 188, height: 118 }), el("span", {}, step.caption));
    button.addEventListener("click", () => enlarge(steps, index, LETTERS[at]));
    return button;
  });
  return el("div", { class: "strip", role: "group", "aria-label": `Pictures of recovery ${LETTERS[at]}` }, ...shots);
}

function stepList(steps) {
  const done = steps.filter((step) => step.kind);
  if (!done.length) return [el("h3", {}, "What it did"), el("p", { class: "muted" }, "Nothing.")];
  const lines = done.map((step) => el("li", {}, step.kind === "shell" ? el("code", {}, step.caption) : step.caption,
    step.error ? el("span", { class: "failed" }, `did not work: ${step.error}`) : null));
  return [el("h3", {}, "What it did"), el("ol", { class: "steps" }, ...lines)];
}

function outcome(facts) {
  return el("ul", { class: "outcome" }, ...facts.map(({ good, text }) => el("li", { class: good === null ? "" : good ? "good" : "bad" },
    good === null ? null : el("span", { class: "sr" }, good ? "Good: " : "Bad: "), text)));
}

/* ---- ratings ---- */

function ratings(at) {
  const rows = state.start.ratings.map(({ key, name, low, high }) => {
    const marks = [1, 2, 3, 4, 5].map((value) => el("label", {},
      el("input", { type: "radio", name: `rate-${at}-${key}`, value: String(value), "aria-label": value === 1 ? `1, ${low}` : value === 5 ? `5, ${high}` : String(value) }),
      el("span", { "aria-hidden": "true" }, String(value))));
    return el("fieldset", { class: "rate", "data-side": String(at), "data-key": key },
      el("legend", {}, name, el("small", {}, `1 ${low} – 5 ${high}`)), el("div", { class: "scale" }, ...marks));
  });
  return el("section", { class: "ratings", "aria-label": `Ratings of recovery ${LETTERS[at]}` }, el("h3", {}, "How well does it do?"), ...rows);
}

const rows = () => [...document.querySelectorAll(".rate")];
const rated = (row) => row.querySelector("input:checked");
const openRow = () => rows().find((row) => !rated(row));
const focusRow = (row) => (rated(row) || row.querySelector("input")).focus();

function rate(row, value) {
  row.querySelector(`input[value="${value}"]`).checked = true;
  keepDraft();
  const next = rows()[rows().indexOf(row) + 1];
  if (next) focusRow(next);
  else document.querySelector("[name=choice]").focus();
}

/* ---- what is not sent yet ---- */

function openDraft(item, earlier) {
  state.drafts = `harmgym-draft ${state.annotator}`;
  const kept = memory.read(state.drafts);
  state.draft = kept && kept.item === item.key && !earlier ? kept : { item: item.key, choice: null, reason: "", ratings: {}, time: 0, id: crypto.randomUUID() };
  if (earlier) Object.assign(state.draft, { choice: earlier.choice, reason: earlier.reason, ratings: { a: earlier.ratings_a, b: earlier.ratings_b }, time: earlier.time_s });
  state.since = document.hidden ? 0 : performance.now();
}

function restore() {
  const { choice, reason, ratings: given } = state.draft;
  const { options } = state.place.current;
  document.querySelectorAll("[name=choice]").forEach((input, at) => { input.checked = options[at].side === choice; });
  $("reason").value = reason;
  for (const row of rows()) {
    const level = (given[options[row.dataset.side].side] || {})[row.dataset.key];
    const input = level ? row.querySelector(`input[value="${Math.round(level)}"]`) : null;
    if (input) input.checked = true;
  }
  mark();
}

function keepDraft() {
  const { options } = state.place.current;
  const chosen = document.querySelector("[name=choice]:checked");
  state.draft.choice = chosen ? options[chosen.value].side : null;
  state.draft.reason = $("reason").value;
  state.draft.ratings = {};
  for (const row of rows()) {
    const side = options[row.dataset.side].side;
    state.draft.ratings[side] = state.draft.ratings[side] || {};
    if (rated(row)) state.draft.ratings[side][row.dataset.key] = Number(rated(row).value);
  }
  tick();
  memory.write(state.drafts, state.draft);
  mark();
}

function mark() {
  const chosen = document.querySelector("[name=choice]:checked");
  [0, 1].forEach((at) => $(`option-${at}`).classList.toggle("chosen", Boolean(chosen) && chosen.value === String(at)));
  for (const row of rows()) if (rated(row)) row.classList.remove("open-now");
}

/* Time counts while the page can be seen. */
function tick() {
  const now = performance.now();
  if (state.since) state.draft.time += (now - state.since) / 1000;
  state.since = document.hidden ? 0 : now;
}

/* ---- deeds ---- */

function choose(at) {
  const input = document.querySelectorAll("[name=choice]")[at];
  input.checked = true;
  keepDraft();
  $("said").textContent = `Recovery ${LETTERS[at]} chosen`;
}

function missing() {
  const row = openRow();
  if (row) {
    rows().forEach((one) => one.classList.toggle("open-now", !rated(one)));
    focusRow(row);
    return "Some ratings are still open; they are marked.";
  }
  if (!state.draft.choice) {
    document.querySelector("[name=choice]").focus();
    return "Choose A or B first.";
  }
  return "";
}

async function send() {
  keepDraft();
  const wanting = missing();
  if (wanting) throw new Error(wanting);
  const { item, choice, reason, time, id, ratings: given } = state.draft;
  const asked = state.start.ratings.length > 0;
  const place = await call("/api/answers", {
    id, item, annotator: state.annotator, choice, reason, time_s: Math.min(time, 86400),
    ratings_a: asked ? given.a : null, ratings_b: asked ? given.b : null,
  });
  memory.drop(state.drafts);
  show(place);
}

async function undo() {
  const place = await call("/api/undo", { annotator: state.annotator });
  show(place, place.undone);
  $("said").textContent = place.undone ? "The last answer was taken back" : "There is nothing to take back";
}

/* ---- pictures ---- */

const viewer = { steps: [], at: 0, letter: "" };

function enlarge(steps, at, letter) {
  Object.assign(viewer, { steps, at, letter });
  turn(0);
  $("viewer").showModal();
}

function turn(by) {
  viewer.at = Math.min(Math.max(viewer.at + by, 0), viewer.steps.length - 1);
  const step = viewer.steps[viewer.at];
  $("viewer-image").src = step.picture;
  $("viewer-image").alt = `The screen after: ${step.caption}`;
  $("viewer-place").textContent = `${viewer.letter}, ${viewer.at + 1} of ${viewer.steps.length}`;
  $("viewer-caption").textContent = step.caption;
  $("viewer-back").disabled = viewer.at === 0;
  $("viewer-on").disabled = viewer.at === viewer.steps.length - 1;
}

/* ---- keys ---- */

function showHelp() {
  document.querySelectorAll(".only-ratings").forEach((node) => { node.hidden = !state.start.ratings.length; });
  document.querySelectorAll(".only-pictures").forEach((node) => { node.hidden = !document.querySelector(".shot"); });
  $("help").showModal();
}

const KEYS = {
  "1": () => choose(0), a: () => choose(0), "2": () => choose(1), b: () => choose(1),
  r: () => $("reason").focus(), z: () => attempt(undo), s: () => { $("facts").open = !$("facts").open; },
  e: () => { if (rows().length) focusRow(openRow() || rows()[0]); },
  p: () => { const shot = document.querySelector(".shot"); if (shot) shot.focus(); },
  enter: () => attempt(send),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if ($("viewer").open) {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
    return;
  }
  if ($("help").open || document.body.dataset.view === "start") return;
  const target = event.target;
  if (target === $("reason")) return onReasonKey(event);
  const key = event.key.toLowerCase();
  const row = target.closest && target.closest(".rate");
  if (row && /^[1-5]$/.test(key)) return handled(event, () => rate(row, key));
  if (key === "?") return handled(event, showHelp);
  if (document.body.dataset.view === "finish") return key === "z" ? handled(event, KEYS.z) : undefined;
  if (key === "enter" && target.closest("button, summary, a") && target !== $("next")) return; // they have a use of their own for it
  if (KEYS[key]) handled(event, KEYS[key]);
}

function onReasonKey(event) {
  if (event.key === "Escape") handled(event, () => $("situation").focus({ preventScroll: true }));
  else if (event.key === "Enter" && !event.shiftKey) handled(event, KEYS.enter);
}

function handled(event, deed) {
  event.preventDefault();
  if (!event.repeat) deed(); // a key held down must not answer the next pairs as well
}

/* ---- begin ---- */

document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => { if (state.draft) tick(); });
$("work").addEventListener("submit", (event) => { event.preventDefault(); attempt(send); });
$("work").addEventListener("change", keepDraft);
$("reason").addEventListener("input", keepDraft);
$("start-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(() => enter($("name").value.trim())); });
$("undo").addEventListener("click", () => attempt(undo));
$("finish-undo").addEventListener("click", () => attempt(undo));
$("help-button").addEventListener("click", showHelp);
for (const id of ["who", "finish-other"]) $(id).addEventListener("click", () => attempt(() => { memory.drop("harmgym-annotator"); return showStart(); }));
$("facts").addEventListener("toggle", () => memory.write("harmgym-facts", $("facts").open));
$("viewer-back").addEventListener("click", () => turn(-1));
$("viewer-on").addEventListener("click", () => turn(1));
$("viewer-close").addEventListener("click", () => $("viewer").close());

attempt(async () => {
  if (memory.read("harmgym-facts") === false) $("facts").open = false;
  await showStart();
  const name = memory.read("harmgym-annotator");
  if (name && state.start.annotators.some((one) => one.name === name)) await enter(name);
});
