"use strict";
(() => {
  const root = JSON.parse(document.getElementById("tree").textContent);
  const map = document.getElementById("map");
  const trail = document.getElementById("trail");
  const said = document.getElementById("said");
  let path = [root];

  const human = (bytes) => {
    if (bytes < 1024) return String(bytes);
    const units = ["K", "M", "G", "T", "P", "E"];
    let size = bytes / 1024, unit = 0;
    while (Math.ceil(size) >= 1024 && unit < units.length - 1) { size /= 1024; unit += 1; }
    return (size * 10 < 99.5 ? (Math.ceil(size * 10) / 10).toFixed(1) : Math.ceil(size)) + units[unit];
  };

  // A colour for a name, the same wherever it stands.
  const colour = (name) => {
    let hash = 0;
    for (const c of name) hash = (hash * 31 + c.codePointAt(0)) % 360;
    return `hsl(${hash} 55% 78%)`;
  };

  // Rows whose tiles are as square as they can be (Bruls, Huizing, van Wijk).
  const layout = (nodes, box) => {
    const total = nodes.reduce((sum, node) => sum + node.bytes, 0);
    const placed = [];
    let rest = nodes.filter((node) => node.bytes > 0).map((node) => ({ node, area: (node.bytes / total) * box.w * box.h }));
    let { x, y, w, h } = box;
    const worst = (row, side) => {
      const sum = row.reduce((all, item) => all + item.area, 0);
      return Math.max(...row.map((item) => Math.max((side * side * item.area) / (sum * sum), (sum * sum) / (side * side * item.area))));
    };
    while (rest.length > 0) {
      const side = Math.min(w, h);
      let count = 1;
      while (count < rest.length && worst(rest.slice(0, count + 1), side) <= worst(rest.slice(0, count), side)) count += 1;
      const row = rest.slice(0, count);
      const sum = row.reduce((all, item) => all + item.area, 0);
      const thick = side > 0 ? sum / side : 0;
      let at = 0;
      for (const { node, area } of row) {
        const long = thick > 0 ? area / thick : 0;
        placed.push(w < h ? { node, x: x + at, y, w: long, h: thick } : { node, x, y: y + at, w: thick, h: long });
        at += long;
      }
      if (w < h) { y += thick; h -= thick; } else { x += thick; w -= thick; }
      rest = rest.slice(count);
    }
    return placed;
  };

  const LEVELS = 5;
  const TITLE = 20;
  const EDGE = 3;

  // The children of the last directory of a trail, in a box; those with room show theirs inside. Gives how many it drew.
  const draw = (trailed, box, whole, level) => {
    const here = trailed[trailed.length - 1];
    const placed = layout(here.children || [], box);
    for (const { node, x, y, w, h } of placed) {
      const opens = (node.children || []).length > 0;
      const tile = document.createElement(opens ? "button" : "div");
      tile.className = "tile";
      if (opens) tile.type = "button"; else tile.tabIndex = 0;
      const part = here.bytes > 0 ? ((100 * node.bytes) / here.bytes).toFixed(1) : "0";
      const label = `${node.name}, ${human(node.bytes)}, ${part} % of ${here.name}, ${node.files} files`;
      tile.title = label;
      tile.setAttribute("aria-label", label);
      tile.style.cssText = `left:${(100 * x) / whole.w}%;top:${(100 * y) / whole.h}%;width:${(100 * w) / whole.w}%;height:${(100 * h) / whole.h}%;background:${colour(node.name)}`;
      const span = document.createElement("span");
      span.textContent = `${node.name} ${human(node.bytes)}`;
      tile.append(span);
      if (opens) tile.addEventListener("click", () => { path = [...trailed, node]; show(true); });
      map.append(tile);
      const inside = { x: x + EDGE, y: y + TITLE, w: w - 2 * EDGE, h: h - TITLE - EDGE };
      if (opens && level > 1 && inside.w > 60 && inside.h > 40) draw([...trailed, node], inside, whole, level - 1);
    }
    return placed.length;
  };

  const show = (focus) => {
    const here = path[path.length - 1];
    const whole = { x: 0, y: 0, w: map.clientWidth || 1000, h: map.clientHeight || 480 };
    map.replaceChildren();
    const drawn = draw(path, whole, whole, LEVELS);
    trail.replaceChildren();
    path.forEach((node, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${node.name} ${human(node.bytes)}`;
      if (index === path.length - 1) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => { path = path.slice(0, index + 1); show(true); });
      trail.append(button);
    });
    said.textContent = `${path.map((node) => node.name).join(" ")}: ${human(here.bytes)} in ${here.files} files`;
    if (focus && map.firstElementChild) map.firstElementChild.focus();
    return drawn;
  };

  map.addEventListener("keydown", (event) => {
    const tiles = [...map.children];
    const at = tiles.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && at >= 0) {
      tiles[(at + step + tiles.length) % tiles.length].focus();
      event.preventDefault();
    } else if ((event.key === "Escape" || event.key === "Backspace") && path.length > 1) {
      path.pop();
      show(true);
      event.preventDefault();
    }
  });
  window.addEventListener("resize", () => show(false));
  document.documentElement.dataset.ready = String(show(false));
})();
