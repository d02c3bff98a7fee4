/* Draws the charts of a report from the data that stands in the page. Without it the tables say the
 * same. Numbers only go into the charts; names are set as text. */
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("data").textContent);
  var css = function (name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  };
  var units = [[1e9, "s"], [1e6, "ms"], [1e3, "\u00b5s"], [1, "ns"]];
  function time(ns) {
    if (ns === null || ns === undefined) { return "-"; }
    var u = units.find(function (x) { return ns >= x[0]; }) || units[3];
    var v = ns / u[0];
    return (v < 10 ? v.toFixed(2) : v < 100 ? v.toFixed(1) : v.toFixed(0)) + " " + u[1];
  }
  function count(v) {
    if (v === null || v === undefined) { return "-"; }
    return v >= 1e6 ? (v / 1e6).toFixed(1) + " M" : v >= 1e3 ? (v / 1e3).toFixed(1) + " k" : String(+v.toPrecision(4));
  }
  function percent(nines) {
    var q = 100 * (1 - Math.pow(10, -nines));
    return q >= 99.9999 ? "99.9999 %" : +q.toPrecision(6) + " %";
  }
  var names = ["--a", "--b", "--better", "--slo", "--worse"];
  var live = [];

  function draw(box) {
    var chart = data.charts[+box.dataset.chart];
    var ink = css("--ink"), line = css("--line");
    var yText = chart.y === "ns" ? time : count;
    var xText = chart.x === "nines" ? percent : chart.x === "ns" ? time : count;
    var axis = function (label, text, size) {
      return { label: label, stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line }, size: size,
        values: function (u, list) { return list.map(text); } };
    };
    var xAxis = axis(chart.xLabel, xText, 50);
    if (chart.x === "nines") {
      /* p50 and whole nines, as far as the samples reach. */
      xAxis.splits = function () { return [0, Math.log10(2), 1, 2, 3, 4, 5]; };
    }
    var series = [{ label: chart.xLabel, value: function (u, v) { return v === null ? "-" : xText(v); } }];
    chart.series.forEach(function (s, i) {
      series.push({ label: s.label, stroke: css(names[i % names.length]), width: 2, dash: i % 2 ? [6, 3] : [],
        points: { show: chart.points === true }, spanGaps: true,
        value: function (u, v) { return yText(v); } });
    });
    var rows = [chart.xs].concat(chart.series.map(function (s) { return s.ys; }));
    if (chart.separate) {
      /* Series with x values of their own are joined on a common axis. */
      rows = uPlot.join(chart.series.map(function (s) { return [s.xs, s.ys]; }));
    }
    box.textContent = "";
    var plot = new uPlot({
      width: Math.max(280, box.clientWidth), height: 300, series: series,
      scales: { x: { time: false, distr: chart.xLog ? 3 : 1 }, y: { distr: chart.log ? 3 : 1, range: chart.log ? undefined : function (u, lo, hi) { return [0, hi > 0 ? hi * 1.05 : 1]; } } },
      axes: [xAxis, axis(chart.yLabel, yText, 76)],
      legend: { live: true }, cursor: { drag: { x: true, y: false } }
    }, rows, box);
    box.setAttribute("data-drawn", "yes");
    live.push({ box: box, plot: plot });
  }

  function drawVisible() {
    document.querySelectorAll("[data-chart]").forEach(function (box) {
      if (!box.dataset.drawn && box.clientWidth > 0) { draw(box); }
    });
  }

  function redraw() {
    live.splice(0).forEach(function (x) { x.plot.destroy(); delete x.box.dataset.drawn; });
    drawVisible();
  }

  if (window.uPlot) {
    drawVisible();
    document.querySelectorAll("details").forEach(function (d) { d.addEventListener("toggle", drawVisible); });
    var pending = 0;
    window.addEventListener("resize", function () {
      clearTimeout(pending);
      pending = setTimeout(redraw, 100);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  } else {
    document.querySelectorAll("[data-chart]").forEach(function (box) {
      box.textContent = "This build of codeq-bench has no chart library; the table below says the same.";
      box.className = "nojs";
    });
  }
}());
