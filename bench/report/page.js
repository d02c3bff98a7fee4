/* Draws a report's charts and flame graphs from the data that stands in the page. Without it the
 * tables say the same. Numbers only go into the charts; names are set as text. */
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("data").textContent);
  var css = function (name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  };
  var times = [[1e9, "s"], [1e6, "ms"], [1e3, "\u00b5s"], [0, "ns"]];
  function absent(v) { return v === null || v === undefined; }
  function short(v) { return v < 10 ? +v.toFixed(2) : v < 100 ? +v.toFixed(1) : Math.round(v); }
  function time(ns) {
    if (absent(ns)) { return "-"; }
    var u = times.find(function (x) { return ns >= x[0]; }) || times[3];
    return short(u[0] > 0 ? ns / u[0] : ns) + " " + u[1];
  }
  function bytes(v) {
    if (absent(v)) { return "-"; }
    return v >= 1048576 ? short(v / 1048576) + " MiB" : v >= 1024 ? short(v / 1024) + " KiB" : short(v) + " B";
  }
  function count(v) {
    if (absent(v)) { return "-"; }
    return v.toLocaleString("en-GB", { maximumFractionDigits: v < 10 ? 3 : 1 });
  }
  function percent(v) { return absent(v) ? "-" : +v.toPrecision(3) + " %"; }
  function nines(v) {
    if (absent(v)) { return "-"; }
    return v < 0.01 ? "" : "p" + +(100 * (1 - Math.pow(10, -v))).toPrecision(Math.max(2, Math.ceil(v) + 1));
  }
  var writers = { ns: time, bytes: bytes, count: count, percent: percent, nines: nines, run: count };
  var live = [];

  /* Commits by their place: the short hash on the axis, all of it in the legend. */
  function writeCommit(chart) {
    return function (v) {
      var c = absent(v) ? undefined : chart.commits[v];
      return c === undefined ? "" : c[0].slice(0, 8);
    };
  }

  /* Objectives and change points, over what is drawn. */
  function overlay(chart) {
    return function (u) {
      var c = u.ctx, box = u.bbox, px = devicePixelRatio || 1;
      c.save();
      c.strokeStyle = c.fillStyle = css("--slo");
      c.font = 12 * px + "px system-ui, sans-serif";
      c.lineWidth = 1.5 * px;
      c.setLineDash([2 * px, 3 * px]);
      chart.lines.forEach(function (line) {
        var y = u.valToPos(line.value, "y", true);
        if (y < box.top || y > box.top + box.height) { return; }
        c.beginPath();
        c.moveTo(box.left, y);
        c.lineTo(box.left + box.width, y);
        c.stroke();
        c.fillText(line.label + " " + writers[chart.y](line.value), box.left + 4 * px, y - 4 * px);
      });
      (chart.changes || []).forEach(function (at) {
        var x = u.valToPos(at - 0.5, "x", true);
        c.beginPath();
        c.moveTo(x, box.top);
        c.lineTo(x, box.top + box.height);
        c.stroke();
      });
      c.restore();
    };
  }

  function axis(label, write, size) {
    var line = css("--line");
    return { label: label, stroke: css("--ink"), grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 },
      size: size, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 20, gap: 4,
      values: function (u, list) { return list.map(function (v) { return v === null ? "" : write(v); }); } };
  }

  function yRange(chart) {
    var limits = chart.lines.map(function (l) { return l.value; });
    if (chart.logY) {
      return function (u, low, high) {
        if (low === null || !(low > 0)) { return [1, 10]; }
        limits.forEach(function (v) { high = Math.max(high, v); });
        return [low / 1.2, high * 1.25];
      };
    }
    return function (u, low, high) {
      if (chart.commits) {
        var room = (high - low) * 0.1 || Math.abs(high) * 0.02 || 1;
        return [low - room, high + room];
      }
      return [0, high > 0 ? high * 1.05 : 1];
    };
  }

  function xRange(chart, rows) {
    var xs = rows[0], last = xs[xs.length - 1];
    var whole = chart.x === "nines" ? [0, Math.max(2, last)]
      : chart.x === "commit" || chart.x === "run" ? [xs[0] - 0.5, last + 0.5] : null;
    /* A zoom asks for less than all. */
    return whole === null ? undefined : function (u, low, high) {
      return low <= xs[0] && high >= last ? whole : [low, high];
    };
  }

  function draw(box) {
    var chart = data.charts[+box.dataset.chart];
    var yText = writers[chart.y] || count, xText = chart.commits ? writeCommit(chart) : writers[chart.x] || count;
    var rows = uPlot.join(chart.series.map(function (s) { return [s.xs, s.ys]; }));
    var x = axis(chart.xLabel, xText, 34);
    if (chart.x === "nines") {
      x.splits = function (u) {
        var marks = [0, Math.log10(2), 1, 2, 3, 4, 5, 6];
        return marks.filter(function (m) { return m <= u.scales.x.max; });
      };
      x.incrs = [1];
    } else if (chart.commits || chart.x === "run") {
      x.incrs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
      x.space = chart.commits ? 70 : 40;
    } else if (chart.logX) {
      /* Halves and fifths of a decade fill in where whole ones are few. */
      x.splits = function (u) {
        var marks = [], from = u.scales.x.min, to = u.scales.x.max, steps = to / from > 20 ? [1] : [1, 2, 5];
        for (var d = Math.pow(10, Math.floor(Math.log10(from))); d <= to; d *= 10) {
          steps.forEach(function (s) { if (d * s >= from && d * s <= to) { marks.push(d * s); } });
        }
        return marks;
      };
      x.filter = function (u, list) { return list; };
    }
    var y = axis(chart.yLabel, yText, 62);
    if (chart.logY) {
      y.splits = function (u) {
        var marks = [], from = u.scales.y.min, to = u.scales.y.max, steps = to / from > 300 ? [1] : [1, 2, 5];
        for (var d = Math.pow(10, Math.floor(Math.log10(from))); d <= to; d *= 10) {
          steps.forEach(function (s) { if (d * s >= from && d * s <= to) { marks.push(d * s); } });
        }
        return marks;
      };
      y.filter = function (u, list) { return list; };
    }
    var points = chart.x === "run" || chart.x === "commit";
    var series = [{ label: chart.commits ? "commit" : chart.x === "nines" ? "percentile" : chart.xLabel.split(",")[0],
      value: function (u, v) {
        if (chart.commits && !absent(v)) { return chart.commits[v] ? chart.commits[v][0].slice(0, 12) + " " + chart.commits[v][1] : ""; }
        return xText(v);
      } }];
    chart.series.forEach(function (s) {
      var stroke = css(s.side === 0 ? "--a" : "--b");
      series.push({ label: s.label, stroke: stroke, width: 2, dash: s.dashed ? [6, 4] : [],
        points: { show: points && s.xs.length < 80, size: 6, fill: stroke }, value: function (u, v) { return yText(v); } });
    });
    var range = xRange(chart, rows);
    box.textContent = "";
    var plot = new uPlot({
      width: Math.max(260, box.clientWidth), height: chart.commits ? 220 : 260, series: series,
      scales: { x: { time: false, distr: chart.logX ? 3 : 1, range: range },
        y: { distr: chart.logY ? 3 : 1, range: yRange(chart) } },
      axes: [x, y], legend: { live: true }, cursor: { drag: { x: true, y: false }, points: { size: 8 } },
      hooks: { draw: [overlay(chart)] }
    }, rows, box);
    box.dataset.drawn = "yes";
    box.plot = plot;
    live.push({ box: box, plot: plot });
  }

  function isShown(box) { return box.clientWidth > 0; }

  function drawVisible() {
    document.querySelectorAll("[data-chart]").forEach(function (box) {
      if (window.uPlot && !box.dataset.drawn && isShown(box)) { draw(box); }
    });
    document.querySelectorAll("[data-flame]").forEach(function (box) {
      if (!box.dataset.drawn && isShown(box)) { flames.draw(box, data.flames[+box.dataset.flame], data.strings); }
    });
  }

  function redraw() {
    live.splice(0).forEach(function (x) { x.plot.destroy(); delete x.box.dataset.drawn; });
    drawVisible();
  }

  if (!window.uPlot) {
    document.querySelectorAll("[data-chart]").forEach(function (box) {
      box.textContent = "This build of codeq-bench has no chart library; the tables say the same.";
      box.className = "nojs";
    });
  }

  /* Function names become buttons that show their source lines. */
  document.querySelectorAll("[data-lines]").forEach(function (table) {
    var box = document.querySelector("[data-flame=\"" + table.dataset.lines + "\"]");
    table.querySelectorAll("[data-function]").forEach(function (head) {
      var name = head.textContent, button = flames.element("button", "link", name);
      button.type = "button";
      button.addEventListener("click", function () { box.showFunction(name); });
      head.textContent = "";
      head.appendChild(button);
    });
  });

  drawVisible();
  document.querySelectorAll("details").forEach(function (d) { d.addEventListener("toggle", drawVisible); });
  var pending = 0;
  window.addEventListener("resize", function () {
    clearTimeout(pending);
    pending = setTimeout(redraw, 100);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  /* Paper is white: what is open is drawn anew for it, and back afterwards. */
  window.addEventListener("beforeprint", function () {
    document.documentElement.dataset.print = "yes";
    redraw();
  });
  window.addEventListener("afterprint", function () {
    delete document.documentElement.dataset.print;
    redraw();
  });
}());
