"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const steps = read("steps"), images = read("images");
  const PLAY_MS = 1100;

  function make(tag, cls, text) {
    const node = document.createElement(tag);
    if (cls) node.className = cls;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function player(figure) {
    const list = steps[figure.dataset.steps] || [];
    const side = figure.parentElement;
    const at = (selector) => figure.querySelector(selector);
    const img = at("img"), pointer = at(".pointer"), none = at(".none"), slider = at("input"), where = at(".where");
    const caption = at(".caption"), error = at(".error"), play = at(".play");
    const terminal = side.querySelector(".terminal"), chips = side.querySelector(".steps");
    let now = 0, timer = null;

    const rows = list.map((step, i) => {
      const button = make("button");
      button.type = "button";
      button.append(make("span", "n", step.index), make("span", "tag", step.kind), make("span", "what", step.caption),
        make("span", step.ok ? "t" : "t bad", step.ok ? step.t.toFixed(1) + " s" : "✗ " + step.t.toFixed(1) + " s"));
      button.addEventListener("click", () => { stop(); show(i); });
      const item = make("li");
      item.append(button);
      chips.append(item);
      return button;
    });

    function show(i) {
      if (!list.length) { none.hidden = false; return; }
      now = Math.max(0, Math.min(list.length - 1, i));
      const step = list[now];
      const source = step.image && images[step.image];
      img.hidden = !source;
      none.hidden = Boolean(source);
      if (source) img.src = source;
      img.alt = `Screen after step ${step.index}: ${step.caption}`;
      pointer.hidden = !(source && step.point);
      if (step.point) { pointer.style.left = step.point[0] + "%"; pointer.style.top = step.point[1] + "%"; }
      slider.value = now;
      slider.setAttribute("aria-valuetext", `step ${step.index} of ${list[list.length - 1].index}`);
      where.textContent = `${step.index} / ${list[list.length - 1].index} · ${step.t.toFixed(1)} s`;
      caption.replaceChildren(make("span", "tag", step.kind), document.createTextNode(step.caption));
      error.hidden = !step.error;
      error.textContent = step.error;
      terminal.textContent = step.text;
      terminal.scrollTop = terminal.scrollHeight;
      rows.forEach((row, j) => (j === now ? row.setAttribute("aria-current", "step") : row.removeAttribute("aria-current")));
      const row = rows[now];
      if (row.offsetTop < chips.scrollTop || row.offsetTop + row.offsetHeight > chips.scrollTop + chips.clientHeight) {
        chips.scrollTop = row.offsetTop - chips.clientHeight / 2;
      }
    }
    function stop() { clearInterval(timer); timer = null; play.textContent = "▶"; play.setAttribute("aria-label", "Play"); }
    function toggle() {
      if (timer) { stop(); return; }
      if (now >= list.length - 1) show(0);
      play.textContent = "❚❚";
      play.setAttribute("aria-label", "Pause");
      timer = setInterval(() => { show(now + 1); if (now >= list.length - 1) stop(); }, PLAY_MS);
    }
    at(".prev").addEventListener("click", () => { stop(); show(now - 1); });
    at(".next").addEventListener("click", () => { stop(); show(now + 1); });
    play.addEventListener("click", toggle);
    slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
    figure.addEventListener("keydown", (event) => {
      if (event.target === slider) return;
      const go = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: list.length - 1 }[event.key];
      if (go !== undefined) { event.preventDefault(); stop(); show(go); }
      else if (event.key === " " && event.target === figure) { event.preventDefault(); toggle(); }
    });
    show(0);
  }

  document.querySelectorAll(".player").forEach(player);

  const filters = [...document.querySelectorAll("[data-show]")];
  filters.forEach((button) => button.addEventListener("click", () => {
    filters.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    document.querySelectorAll("[data-state]").forEach((node) => {
      node.hidden = button.dataset.show !== "all" && node.dataset.state !== button.dataset.show;
    });
  }));

  document.querySelectorAll('a[href^="#episode"]').forEach((link) => link.addEventListener("click", () => {
    const target = document.querySelector(link.getAttribute("href"));
    if (target) target.open = true;
  }));

  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
})();
