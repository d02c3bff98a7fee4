/* Flame graphs from the stacks in the page's data: zoom, search, keyboard, and a function's source
 * lines. Names come from result sets: they are only ever set as text. */
var flames = (function () {
  "use strict";
  var NARROWEST = 0.0008; /* of the width: narrower frames are not drawn */
  var TELLING = 0.004; /* the widest frame of a row: rows of less wait until they are zoomed in on */
  var ROW_PX = 19;

  function element(tag, className, text) {
    var e = document.createElement(tag);
    if (className) { e.className = className; }
    if (text !== undefined) { e.textContent = text; }
    return e;
  }

  function figure(v) {
    var size = Math.abs(v);
    return v.toLocaleString("en-GB", { maximumFractionDigits: size >= 1000 ? 0 : size >= 10 ? 1 : 2 });
  }

  function signed(v) { return (v > 0 ? "+" : "") + figure(v); }

  /* [shared, names..., value] a stack: the names that it shares with the one before are not told. */
  function addStacks(root, list, strings, side, ops) {
    var path = [];
    list.forEach(function (stack) {
      path = path.slice(0, stack[0]).concat(stack.slice(1, -1));
      var value = stack[stack.length - 1] / ops, node = root;
      root.sum[side] += value;
      path.forEach(function (id) {
        var next = node.kids.get(id);
        if (next === undefined) {
          next = { id: id, name: strings[id], kids: new Map(), self: [0, 0], sum: [0, 0], depth: node.depth + 1, up: node };
          node.kids.set(id, next);
        }
        next.sum[side] += value;
        node = next;
      });
      node.self[side] += value;
    });
  }

  function size(node) { return node.sum[0] + node.sum[1]; }

  function layout(node, left, all) {
    node.left = left;
    all.push(node);
    var kids = Array.from(node.kids.values());
    kids.sort(function (x, y) { return x.name < y.name ? -1 : x.name > y.name ? 1 : 0; });
    node.order = kids;
    kids.forEach(function (kid) {
      layout(kid, left, all);
      left += size(kid);
    });
  }

  function hash(name) {
    var h = 2166136261;
    for (var i = 0; i < name.length; i++) { h = Math.imul(h ^ name.charCodeAt(i), 16777619); }
    return (h ^ h >>> 13) >>> 0;
  }

  /* Light enough for dark text, whatever the theme. */
  function colour(node, two, most) {
    if (!two) {
      var h = hash(node.name);
      return "hsl(" + (18 + h % 36) + " 85% " + (66 + (h >> 8) % 12) + "%)";
    }
    var change = node.self[1] - node.self[0], part = most > 0 ? Math.abs(change) / most : 0;
    if (part < 0.001) { return "#e4e4e4"; }
    part = 0.25 + 0.75 * part;
    var to = change > 0 ? [255, 107, 87] : [91, 155, 255];
    return "rgb(" + to.map(function (c) { return Math.round(228 + (c - 228) * part); }).join(" ") + ")";
  }

  function describe(node, flame, root) {
    var text = node.name + ": ";
    if (!flame.two) {
      return text + figure(node.sum[0]) + " " + flame.unit + " (" + (100 * node.sum[0] / root.sum[0]).toFixed(2) +
        " %), itself " + figure(node.self[0]);
    }
    return text + figure(node.sum[0]) + " \u2192 " + figure(node.sum[1]) + " " + flame.unit + " (" +
      signed(node.sum[1] - node.sum[0]) + "), itself " + figure(node.self[0]) + " \u2192 " + figure(node.self[1]) +
      " (" + signed(node.self[1] - node.self[0]) + ")";
  }

  function cell(row, text, className) { row.appendChild(element("td", className, text)); }

  function changeClass(v) { return v > 0 ? "worse" : v < 0 ? "better" : "dim"; }

  /* The table of a function's lines; rows are [file, line A, line B, text, self A, B, calls A, B]. */
  function showLines(panel, flame, strings, name, id) {
    var rows = flame.lines[id];
    panel.textContent = "";
    panel.hidden = false;
    if (rows === undefined || rows.length === 0) {
      panel.appendChild(element("p", "dim", name + ": no source lines are at hand for it."));
      return;
    }
    var scroll = element("div", "scroll"), table = element("table", "source"), file = -1;
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "source lines");
    var caption = element("caption", "", name + ": instructions per operation of each line" +
      (flame.two ? ", A \u2192 B" : "") + "; \u201ccalls\u201d: spent in what the line calls");
    table.appendChild(caption);
    var head = table.createTHead().insertRow();
    ["line", "itself"].concat(flame.two ? ["change"] : [], ["calls"], flame.two ? ["change"] : [], ["source"])
      .forEach(function (title) {
        var th = element("th", title === "source" ? "text" : "", title);
        th.scope = "col";
        head.appendChild(th);
      });
    var body = table.createTBody();
    rows.forEach(function (r) {
      if (r[0] !== file) {
        file = r[0];
        var th = element("th", "text code", strings[file]);
        th.colSpan = flame.two ? 6 : 4;
        th.scope = "rowgroup";
        body.insertRow().appendChild(th);
      }
      var row = body.insertRow(), b = flame.two ? 1 : 0;
      var gone = flame.two && r[2] < 0, fresh = flame.two && r[1] < 0;
      cell(row, gone ? "\u2212" + r[1] : fresh ? "+" + r[2] : String(flame.two ? r[2] : r[1]), "code");
      cell(row, figure(r[4 + b]));
      if (flame.two) { cell(row, r[5] === r[4] ? "" : signed(r[5] - r[4]), changeClass(r[5] - r[4])); }
      cell(row, figure(r[6 + b]));
      if (flame.two) { cell(row, r[7] === r[6] ? "" : signed(r[7] - r[6]), changeClass(r[7] - r[6])); }
      cell(row, r[3] < 0 ? "" : strings[r[3]], "text code line" + (gone ? " gone" : fresh ? " new" : ""));
    });
    scroll.appendChild(table);
    panel.appendChild(scroll);
  }

  function draw(box, flame, strings) {
    var root = { name: "all", kids: new Map(), self: [0, 0], sum: [0, 0], depth: 0, up: null };
    addStacks(root, flame.a, strings, 0, flame.opsA);
    addStacks(root, flame.b, strings, 1, flame.opsB);
    var all = [], most = 0;
    layout(root, 0, all);
    all.forEach(function (n) { most = Math.max(most, Math.abs(n.self[1] - n.self[0])); });
    box.textContent = "";
    box.dataset.drawn = "yes";
    if (size(root) <= 0) {
      box.appendChild(element("p", "dim", "No stack was recorded."));
      return;
    }
    var bar = element("div", "flame-bar"), label = element("label", "", "search ");
    var input = element("input"), out = element("button", "", "zoom out");
    input.type = "search";
    out.type = "button";
    label.appendChild(input);
    bar.appendChild(label);
    bar.appendChild(out);
    var frames = element("div", "frames"), status = element("p", "flame-status"), panel = element("div", "lines");
    frames.tabIndex = 0;
    frames.setAttribute("role", "application");
    frames.setAttribute("aria-label", "flame graph: arrow keys walk, Enter zooms and shows source lines, Escape zooms out");
    status.setAttribute("aria-live", "polite");
    panel.hidden = true;
    var top = root, current = root, word = "", rows = 1; /* rows never shrink: no frame moves under the pointer */
    all.forEach(function (n) {
      var e = element("div", "fr", n.name);
      e.style.bottom = n.depth * ROW_PX + "px";
      e.style.background = colour(n, flame.two, most);
      e.addEventListener("click", function () { choose(n); frames.focus({ preventScroll: true }); });
      e.addEventListener("mouseenter", function () { status.textContent = describe(n, flame, root); });
      n.e = e;
    });

    function place() {
      var whole = size(top), from = top.left, shown = document.createDocumentFragment();
      var list = all.filter(function (n) {
        var above = n.depth < top.depth && n.left <= from && n.left + size(n) >= from + whole;
        var inside = n.left >= from - 1e-9 && n.left + size(n) <= from + whole * (1 + 1e-9) && n.depth >= top.depth;
        var width = above ? 1 : size(n) / whole;
        if (!(above || inside) || width < NARROWEST) { return false; }
        if (width >= TELLING) { rows = Math.max(rows, n.depth + 1); }
        n.e.style.left = (above ? 0 : 100 * (n.left - from) / whole) + "%";
        n.e.style.width = 100 * width + "%";
        n.e.classList.toggle("above", above);
        n.e.textContent = width < 0.012 ? "" : n.name;
        return true;
      });
      list.forEach(function (n) {
        if (n.depth < rows) { shown.appendChild(n.e); }
      });
      frames.style.height = rows * ROW_PX + "px";
      frames.textContent = "";
      frames.appendChild(shown);
    }

    function mark(n) {
      current.e.classList.remove("current");
      current = n;
      n.e.classList.add("current");
      status.textContent = describe(n, flame, root);
    }

    function choose(n) {
      top = n;
      place();
      mark(n);
      if (n !== root && Object.keys(flame.lines).length > 0) { showLines(panel, flame, strings, n.name, n.id); }
    }

    function zoomOut() {
      panel.hidden = true;
      top = root;
      place();
      mark(root);
    }

    function search() {
      var end = -1, sum = 0, hits = 0;
      word = input.value.toLowerCase();
      all.forEach(function (n) {
        var hit = word !== "" && n.name.toLowerCase().indexOf(word) >= 0;
        n.e.classList.toggle("hit", hit);
        if (hit) {
          hits += 1;
          if (n.left >= end - 1e-9) { sum += size(n); end = n.left + size(n); }
        }
      });
      status.textContent = word === "" ? describe(current, flame, root)
        : hits + " frames hold \u201c" + input.value + "\u201d: " + (100 * sum / size(root)).toFixed(2) + " % of the width";
    }

    function walk(n, key) {
      if (key === "ArrowDown") { return n.up; }
      if (key === "ArrowUp") {
        return n.order.reduce(function (best, k) { return best === null || size(k) > size(best) ? k : best; }, null);
      }
      var row = n.up === null ? [n] : n.up.order;
      return row[row.indexOf(n) + (key === "ArrowLeft" ? -1 : 1)] || null;
    }

    frames.addEventListener("keydown", function (event) {
      if (event.key === "Enter") { choose(current); }
      else if (event.key === "Escape") { zoomOut(); }
      else if (event.key.indexOf("Arrow") === 0) {
        var next = walk(current, event.key);
        if (next !== null && next !== undefined) {
          if (!frames.contains(next.e)) { top = next.depth < top.depth ? next : root; place(); }
          mark(next);
        }
      } else { return; }
      event.preventDefault();
    });
    out.addEventListener("click", zoomOut);
    input.addEventListener("input", search);
    input.addEventListener("keydown", function (event) {
      if (event.key === "Escape") { input.value = ""; search(); zoomOut(); }
    });
    place();
    mark(root);
    box.appendChild(bar);
    box.appendChild(frames);
    box.appendChild(status);
    box.appendChild(panel);
    box.showFunction = function (name) {
      var id = strings.indexOf(name);
      showLines(panel, flame, strings, name, id);
      input.value = name;
      search();
      panel.scrollIntoView({ block: "nearest" });
    };
  }

  return { draw: draw, element: element };
}());
