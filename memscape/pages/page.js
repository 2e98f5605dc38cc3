// The page's script: unpacks Plotly, draws the figures in the theme's colours, sorts tables, shades the passage.
// Every number it writes comes from the columns embedded with a figure, and carries their source.
"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  // ---- theme -------------------------------------------------------------------------------------------------------
  const system = matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    all("[data-do=theme]").forEach((b) => { b.textContent = theme === "dark" ? "Light" : "Dark"; });
  };
  setTheme(system.matches ? "dark" : "light");
  system.addEventListener("change", (e) => { setTheme(e.matches ? "dark" : "light"); redraw(); });

  // ---- figures -----------------------------------------------------------------------------------------------------
  const mix = (a, b, t) => {
    const [p, q] = [a, b].map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
    return `rgb(${p.map((v, i) => Math.round(v + (q[i] - v) * t)).join(",")})`;
  };
  const look = (name = "accent", from = "size-a") => {
    if (name.startsWith("size:")) return mix(colour(from), colour("size-b"), Number(name.slice(5)));
    return colour({ mute: "soft" }[name] ?? name);
  };
  const words = (label) => (label ?? []).map((part) => (typeof part === "string" ? part : part.text)).join("");
  const pick = (spec, name, rows) => {
    const values = spec.columns[name]?.values ?? [];
    return rows ? rows.map((i) => values[i]) : values;
  };
  const rowsOf = (flat, width) => Array.from({ length: flat.length / width }, (_, i) => flat.slice(i * width, (i + 1) * width));
  const round = (v) => (typeof v === "number" ? Number(v.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 }) : String(v ?? "–"));
  const clean = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const hasWebGL = (() => {
    try { return !!document.createElement("canvas").getContext("webgl"); } catch { return false; }
  })();

  const isShare = (spec, name) => !!spec.columns[name]?.unit.startsWith("share");
  function hoverText(spec, trace, i, fields) {
    const lines = fields.filter(([, name]) => spec.columns[name]).map(([title, name]) => {
      const { unit, values } = spec.columns[name];
      const [value, of] = isShare(spec, name) && values[i] !== null ? [100 * values[i], `%${unit.slice(5)}`] : [values[i], unit];
      return `${clean(title)}: ${clean(round(value))}${of ? " " + clean(of) : ""}`;
    });
    return [clean(words(trace.label)), ...lines].filter(Boolean).join("<br>");
  }

  const kinds = {
    line(spec, t) {
      const paint = look(t.look);
      const rows = t.rows ?? pick(spec, t.x).map((_, i) => i);
      const fields = [[t.y.replaceAll("_", " "), t.y], [t.x.replaceAll("_", " "), t.x], ...Object.entries(t.hover ?? {})];
      const marks = t.marks || t.kind === "points";
      return [{
        type: "scatter", x: pick(spec, t.x, rows), y: pick(spec, t.y, rows), name: words(t.label),
        mode: t.kind === "points" ? "markers" : marks ? "lines+markers" : "lines",
        line: { color: paint, width: t.thin ? 1 : t.dash === "dash" ? 1.5 : 2.2, dash: t.dash ?? "solid" },
        marker: { color: t.hollow ? colour("paper") : paint, size: t.kind === "points" ? 9 : 6.5, line: { color: paint, width: t.hollow ? 1.5 : 0 } },
        error_y: t.error && spec.columns[t.error] ? { type: "data", array: pick(spec, t.error, rows), thickness: 1, width: 0, color: paint } : undefined,
        text: rows.map((i) => hoverText(spec, t, i, fields)), hoverinfo: "text",
        ...ends(spec, t, rows, paint, "y", t.low, t.high), ...ends(spec, t, rows, paint, "x", t.left, t.right),
      }];
    },
    points: (spec, t) => kinds.line(spec, t),
    band(spec, t) {
      const edge = (name, fill) => ({ type: "scatter", mode: "lines", x: pick(spec, t.x, t.rows), y: pick(spec, name, t.rows), line: { width: 0 }, hoverinfo: "skip",
        fill, fillcolor: fade(look(t.look), 0.18) });
      return [edge(t.low, undefined), edge(t.high, "tonexty")];
    },
    bars(spec, t) {
      const rows = t.rows ?? pick(spec, t.x).map((_, i) => i);
      const paint = look(t.look);
      const fields = [[t.x.replaceAll("_", " "), t.x], ...Object.entries(t.hover ?? {})];
      return [{
        type: "scatter", mode: "markers", x: pick(spec, t.x, rows), y: pick(spec, t.y, rows), marker: { color: paint, size: 11 }, cliponaxis: false,
        text: rows.map((i) => hoverText(spec, t, i, fields)), hoverinfo: "text", ...ends(spec, t, rows, paint, "x", t.low, t.high),
      }];
    },
    heat(spec, t) {
      const show = (names, r, i) => round(spec.columns[names[r]].values[i]);
      const x = pick(spec, t.x);
      const narrow = plotOf(spec).clientWidth < 560;
      const site = t.hover.site && spec.columns[t.hover.site];
      return [{
        type: "heatmap", x, y: t.y.map((name) => clean(words(name)).replace(" against ", narrow ? "<br>against " : " against ")), z: t.z.map((name) => pick(spec, name)), zmin: -1, zmax: 1, xgap: 1, ygap: 2,
        colorscale: [[0, colour("low")], [0.5, colour("middle")], [1, colour("high")]], hoverinfo: "text",
        colorbar: { orientation: "h", thickness: 8, len: narrow ? 0.9 : 0.4, x: 1, xanchor: "right", y: 1, yanchor: "bottom", outlinewidth: 0, ticks: "", tickvals: [-0.86, 0, 0.86],
          ticktext: ["lower", "as the null", "higher"], tickangle: 0 },
        text: t.z.map((_, r) => x.map((depth, i) => `${clean(site ? site.values[i] : depth)}<br>${clean(words(t.y[r]))}<br>trained ${show(t.hover.trained, r, i)}, null ${show(t.hover.null, r, i)}`)),
      }];
    },
    tiles(spec, t) {
      const [xs, ys] = [t.x, t.y].map((name) => [...new Set(pick(spec, name))].sort((a, b) => a - b));
      const place = new Map(pick(spec, t.x).map((x, i) => [`${x},${pick(spec, t.y)[i]}`, i]));
      const fields = [[t.x, t.x], [t.y, t.y], [t.z, t.z], ...Object.entries(t.hover ?? {})];
      const cell = (make) => ys.map((y) => xs.map((x) => (place.has(`${x},${y}`) ? make(place.get(`${x},${y}`)) : null)));
      return [{ type: "heatmap", x: xs, y: ys, z: cell((i) => pick(spec, t.z)[i]), text: cell((i) => hoverText(spec, t, i, fields)), hoverinfo: "text",
        xgap: 1, ygap: 1, colorscale: [[0, colour("middle")], [1, colour("low")]],
        colorbar: { orientation: "h", thickness: 8, len: 0.5, x: 1, xanchor: "right", y: 1, yanchor: "bottom", outlinewidth: 0, nticks: 4, tickangle: 0,
          tickformat: isShare(spec, t.z) ? ",.0%" : undefined } }];
    },
    surface(spec, t) {
      const [x, y] = [pick(spec, t.x), pick(spec, t.y)];
      const scale = [[0, colour("deep")], [0.5, mix(colour("deep"), colour("shallow"), 0.62)], [1, colour("shallow")]];
      const z = rowsOf(pick(spec, t.z), x.length);
      const bar = { thickness: 8, len: 0.7, outlinewidth: 0, title: { text: words(spec.axes.z.title), side: "right" } };
      if (!hasWebGL) return [{ type: "contour", x, y, z, colorscale: scale, ncontours: 24, line: { width: 0.5, color: colour("paper") }, colorbar: bar }];
      return [{ type: "surface", x, y, z, colorscale: scale, colorbar: bar, showscale: plotOf(spec).clientWidth > 600,
        contours: { z: { show: true, usecolormap: false, color: fade(colour("paper"), 0.55), width: 1 } },
        lighting: { ambient: 0.75, diffuse: 0.5, specular: 0.08, roughness: 0.9 } }];
    },
    peaks(spec, t, _, ground) {
      const [x, y] = [pick(spec, t.x), pick(spec, t.y)];
      const text = x.map((_v, i) => Object.entries(t.hover ?? {}).map(([, name]) => clean(pick(spec, name)[i])).join(" ") || "stored pattern");
      const marker = { color: look(t.look), size: hasWebGL ? 6 : 10, line: { color: colour("paper"), width: 1 } };
      const common = { x, y, mode: "markers", marker, text, hoverinfo: "text" };
      if (!hasWebGL) return [{ type: "scatter", ...common }];
      return [{ type: "scatter3d", ...common, z: x.map((v, i) => height(spec, ground, v, y[i])) }];
    },
  };
  function ends(spec, t, rows, paint, axis, from, to) {
    if (!from || !spec.columns[from]) return {};
    const [v, low, high] = [t[axis], from, to].map((name) => pick(spec, name, rows));
    const bar = { type: "data", symmetric: false, thickness: 1.5, width: 0, color: paint,
      array: v.map((m, i) => (high[i] ?? m) - m), arrayminus: v.map((m, i) => m - (low[i] ?? m)) };
    return { [`error_${axis}`]: bar };
  }
  function height(spec, ground, x, y) {
    const at = (name, v) => pick(spec, name).reduce((best, w, i, list) => (Math.abs(w - v) < Math.abs(list[best] - v) ? i : best), 0);
    const width = pick(spec, ground.x).length;
    return pick(spec, ground.z)[at(ground.y, y) * width + at(ground.x, x)];
  }
  const fade = (paint, alpha) => (paint.startsWith("rgb(") ? paint.replace("rgb(", "rgba(").replace(")", `,${alpha})`)
    : paint + Math.round(alpha * 255).toString(16).padStart(2, "0"));

  // Ticks of a logarithmic axis, written out in full: 5k, 10k, 20k; decades alone where there are many.
  const isMap = (t) => t.kind === "heat" || t.kind === "tiles";
  function extent(spec, axis) {
    const shown = spec.traces.filter((t) => !t.aside && !isMap(t));
    const names = shown.flatMap((t) => {
      const sides = axis === "x" ? [t.x, t.left, t.right] : [t.y, t.low, t.high];
      return sides.filter((name) => typeof name === "string").map((name) => pick(spec, name, t.rows));
    });
    const ends = (values) => { const known = values.filter((v) => typeof v === "number" && v > 0); return [Math.min(...known), Math.max(...known)]; };
    const [low, high] = ends(names.flat());
    if (axis === "x") return [low, high];
    // A band that opens without end would press the line it belongs to flat: it may leave the picture.
    const [least, most] = ends(shown.filter((t) => t.kind !== "band").flatMap((t) => pick(spec, t.y, t.rows)));
    return [Math.max(low, least / 4), Math.min(high, most * 4)];
  }
  function logAxis(spec, axis, length) {
    const [low, high] = extent(spec, axis);
    if (!Number.isFinite(low)) return { type: "log" };
    const pad = 0.04 * Math.max(0.3, Math.log10(high / low));
    const range = [Math.log10(low) - pad, Math.log10(high) + pad];
    if (high / low < 4) {
      const step = [1, 2, 2.5, 5, 10].map((d) => d * 10 ** Math.floor(Math.log10((high - low) / 4))).find((d) => (high - low) / d <= 5);
      const tickvals = Array.from({ length: 8 }, (_, i) => (Math.ceil(low / step) + i) * step).filter((v) => v <= 10 ** range[1]);
      return { type: "log", range, tickvals, ticktext: tickvals.map(scaled) };
    }
    const room = Math.max(3, length / (axis === "x" ? 62 : 34));
    const steps = [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]];
    const inside = (digits, by = 1) => {
      const found = [];
      for (let e = Math.floor(range[0]); e <= range[1]; e += 1) {
        if (e % by === 0) found.push(...digits.map((d) => d * 10 ** e).filter((v) => Math.log10(v) >= range[0] && Math.log10(v) <= range[1]));
      }
      return found;
    };
    const tickvals = steps.map((d) => inside(d)).find((t) => t.length <= room) ?? inside([1], Math.ceil(inside([1]).length / room));
    return { type: "log", range, tickvals, ticktext: tickvals.map(scaled) };
  }
  const scaled = (v) => {
    const [unit, name] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]].find(([u]) => v >= u) ?? [1, ""];
    return `${Number((v / unit).toPrecision(3))}${name}`;
  };
  const ruler = document.createElement("canvas").getContext("2d");
  function widest(spec, size) {
    ruler.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
    return Math.max(0, ...spec.traces.filter((t) => t.tag).map((t) => ruler.measureText(words(t.label)).width), ruler.measureText(spec.key ?? "").width);
  }

  function layout(spec, width) {
    const narrow = width < 560;
    const root_px = parseFloat(getComputedStyle(root).fontSize) / 16; // larger on a wall
    const size = (narrow ? 11 : 13) * root_px;
    const font = { family: getComputedStyle(document.body).fontFamily, size, color: colour("soft") };
    const heat = isMap(spec.traces[0]);
    const height = !narrow ? spec.height * root_px : heat ? spec.height * 1.25 : Math.min(spec.height, 400);
    const right = spec.tagged ? Math.min(widest(spec, size) + 20, 0.42 * width) : 16;
    const axis = (name) => {
      const { title, scale, zero } = spec.axes[name] ?? {};
      const made = { title: { text: words(title), standoff: 10 }, gridcolor: colour("rule"), zeroline: !!zero, zerolinecolor: colour("faint"), linecolor: colour("faint"),
        ticks: "outside", ticklen: 4, tickcolor: colour("faint"), automargin: true, exponentformat: "SI", nticks: narrow ? 5 : 9 };
      if (spec.traces.some((t) => isShare(spec, t[name]))) made.tickformat = ",.0%";
      return { ...made, ...(scale === "log" ? logAxis(spec, name, name === "x" ? width - right - 60 : height - 60) : { type: scale ?? "linear" }) };
    };
    const base = { font, paper_bgcolor: colour("paper"), plot_bgcolor: colour("paper"), showlegend: false, hovermode: "closest", dragmode: false,
      height, margin: { l: 8, r: right, t: spec.key ? 30 : 14, b: 8 },
      hoverlabel: { bgcolor: colour("lift"), bordercolor: colour("rule"), font: { ...font, color: colour("ink") }, align: "left" } };
    if (spec.axes.z && hasWebGL) {
      const wall = (name) => ({ title: { text: words(spec.axes[name].title) }, gridcolor: colour("rule"), zeroline: false, showbackground: false, nticks: 5 });
      const far = narrow ? 1.5 : 1; // a phone sees all of it
      const camera = plotOf(spec)?._fullLayout?.scene?.camera ?? { eye: { x: 1.12 * far, y: -1.3 * far, z: 0.82 * far }, center: { x: 0, y: 0, z: -0.14 } };
      return { ...base, dragmode: "orbit", margin: { l: 0, r: 0, t: 0, b: 0 }, scene: { xaxis: wall("x"), yaxis: wall("y"), zaxis: wall("z"),
        aspectratio: { x: 1.15, y: 1.15, z: 0.6 }, camera } };
    }
    const made = { ...base, xaxis: axis("x"), yaxis: axis("y") };
    if (spec.axes.y?.scale === "category") {
      Object.assign(made.yaxis, { ticks: "", dtick: 1, gridcolor: heat ? "rgba(0,0,0,0)" : colour("rule"), autorange: "reversed", showline: false });
    }
    if (spec.axes.z) Object.assign(made.yaxis, { scaleanchor: "x", constrain: "domain" });
    if (heat) { made.xaxis.gridcolor = "rgba(0,0,0,0)"; made.margin.t = 44; made.xaxis.title.standoff = 24; }
    return made;
  }
  const plotOf = (spec) => document.querySelector(`#${CSS.escape(spec.name)} .plot`);

  const specs = new Map();
  async function draw(figure) {
    const plot = figure.querySelector(".plot");
    const spec = specs.get(figure) ?? JSON.parse(figure.querySelector("script").textContent);
    specs.set(figure, spec);
    plot.style.minHeight = "";
    spec.tagged = spec.traces.some((t) => t.tag);
    const ground = spec.traces.find((t) => t.kind === "surface");
    const traces = spec.traces.flatMap((t) => kinds[t.kind](spec, t, null, ground));
    const plan = layout(spec, plot.clientWidth);
    plan.annotations = [];
    await Plotly.react(plot, traces, plan, { displayModeBar: false, responsive: true, scrollZoom: false });
    if (spec.tagged) await tag(plot, spec);
    figure.dataset.drawn = hasWebGL || !ground ? "plot" : "contour";
  }
  // Names at the end of their lines instead of a legend: at the right edge, moved apart where two would touch; a line that
  // leaves the picture at the top is named where it leaves.
  async function tag(plot, spec) {
    const { xaxis, yaxis } = plot._fullLayout;
    const size = 0.95 * plot._fullLayout.font.size;
    const [edge, out] = [[], []];
    spec.traces.filter((t) => t.tag).forEach((t) => {
      const [xs, ys] = [pick(spec, t.x, t.rows), pick(spec, t.y, t.rows)];
      const at = ys.map((v) => (typeof v === "number" ? yaxis.d2p(v) : NaN));
      const last = at.findLastIndex(Number.isFinite);
      const seen = at.findLastIndex((p) => p >= 0 && p <= yaxis._length);
      if (seen >= 0 && seen === last) edge.push({ t, place: at[last] });
      else if (seen >= 0) out.push({ t, x: xaxis.d2p(xs[seen]), top: at[last] < 0 });
    });
    edge.sort((a, b) => a.place - b.place);
    const wanted = edge.map((one) => one.place);
    for (let i = 1; i < edge.length; i += 1) edge[i].place = Math.max(edge[i].place, edge[i - 1].place + size * 1.28);
    const drift = edge.reduce((sum, one, i) => sum + one.place - wanted[i], 0) / (edge.length || 1);
    const over = Math.max(0, ...edge.map((one) => one.place - drift - yaxis._length - 4));
    const common = (t) => ({ showarrow: false, text: clean(words(t.label)), font: { color: look(t.look, "tag-a"), size } }); // words need more contrast than lines
    const annotations = edge.map(({ t, place }) => ({ ...common(t), xref: "paper", x: 1, xanchor: "left", xshift: 8, yref: "paper", y: 1, yanchor: "middle",
      yshift: -(place - drift - over), align: "left" }));
    annotations.push(...out.map(({ t, x, top }, i) => ({ ...common(t), xref: "paper", x: 0, xanchor: "right", xshift: Math.max(x - 6, 90), yref: "paper", y: top ? 1 : 0,
      yanchor: top ? "top" : "bottom", yshift: (top ? -1 : 1) * (4 + 16 * (out.length - 1 - i)) })));
    if (spec.key) {
      annotations.push({ showarrow: false, text: clean(spec.key), font: { color: colour("soft"), size }, xref: "paper", x: 1, xanchor: "left", xshift: 8, yref: "paper", y: 1,
        yanchor: "bottom", yshift: 10 });
    }
    await Plotly.relayout(plot, { annotations });
  }
  let drawing = Promise.resolve();
  function redraw(within = document) {
    drawing = drawing.then(async () => { for (const figure of all("figure[data-kind=plot]", within)) if (figure.offsetParent) await draw(figure); });
    return drawing;
  }

  async function unpack() {
    const packed = document.getElementById("plotly");
    const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    packed.remove();
  }

  // ---- downloads ---------------------------------------------------------------------------------------------------
  function csv(spec) {
    const names = Object.keys(spec.columns);
    const cell = (v) => { const s = String(v ?? ""); return /[",\n]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s; };
    const head = names.map((n) => (spec.columns[n].unit ? `${n} (${spec.columns[n].unit})` : n));
    const length = Math.max(...names.map((n) => spec.columns[n].values.length));
    const lines = Array.from({ length }, (_, i) => names.map((n) => cell(spec.columns[n].values[i])).join(","));
    return [head.map(cell).join(","), ...lines].join("\n") + "\n";
  }
  function save(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---- the passage -------------------------------------------------------------------------------------------------
  function passage(figure) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    specs.set(figure, spec);
    const text = figure.querySelector(".passage");
    const readout = figure.querySelector(".readout");
    const tokens = spec.columns.tokens.values.map((token) => {
      const mark = document.createElement("i");
      mark.textContent = token;
      return mark;
    });
    const holder = text.querySelector("data") ?? text;
    holder.replaceChildren(...tokens);
    function shade() {
      const values = spec.columns[figure.querySelector("input:checked").value].values;
      const known = values.filter((v) => v !== null).sort((a, b) => a - b);
      const [low, high] = [known[Math.floor(known.length * 0.02)], known[Math.ceil(known.length * 0.98) - 1]];
      tokens.forEach((mark, i) => {
        const depth = values[i] === null ? 0 : 1 - Math.min(1, Math.max(0, (values[i] - low) / (high - low || 1)));
        mark.style.background = `color-mix(in srgb, var(--accent) ${Math.round(depth * 52)}%, transparent)`;
      });
    }
    let at = 0;
    function show(i) {
      tokens[at].removeAttribute("aria-current");
      at = Math.min(tokens.length - 1, Math.max(0, i));
      tokens[at].setAttribute("aria-current", "true");
      const parts = Object.entries(spec.columns).filter(([, c]) => c.values[at] !== null).map(([name, column]) => {
        const data = document.createElement("data");
        data.dataset.src = column.src.replace(/\*$/, at);
        data.dataset.fmt = name === "tokens" ? "text" : "sig4";
        data.textContent = name === "tokens" ? column.values[at] : Number(column.values[at].toPrecision(4)).toString().replace("-", "−");
        return name === "tokens" ? ["“", data, "”"] : [` · ${name} `, data, column.unit ? ` ${column.unit}` : ""];
      });
      readout.replaceChildren(...parts.flat());
    }
    tokens.forEach((mark, i) => mark.addEventListener("pointerenter", () => show(i)));
    text.addEventListener("click", (e) => { const i = tokens.indexOf(e.target); if (i >= 0) show(i); });
    text.addEventListener("keydown", (e) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (move) { e.preventDefault(); show(at + move); }
    });
    all("input", figure).forEach((input) => input.addEventListener("change", shade));
    shade();
  }

  // ---- tables, claims, sources, sections ---------------------------------------------------------------------------
  function sort(button) {
    const head = button.closest("th");
    const place = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    all("th", head.parentNode).forEach((th) => th.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const data = row.children[place].querySelector("data");
      return data?.hasAttribute("value") ? Number(data.value) : row.children[place].textContent.trim();
    };
    const body = head.closest("table").tBodies[0];
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
      return up ? order : -order;
    });
    body.append(...rows);
  }
  const actions = {
    theme: () => { setTheme(root.dataset.theme === "dark" ? "light" : "dark"); redraw(); },
    sources: (button) => {
      const on = root.classList.toggle("show-sources");
      button.setAttribute("aria-pressed", on);
      all("data[data-src]").forEach((el) => { if (on) el.title = el.dataset.src; else el.removeAttribute("title"); });
    },
    sort,
    csv: (button) => { const f = button.closest("figure"); save(`${f.id}.csv`, csv(specs.get(f))); },
    svg: (button) => picture(button, "svg"),
    png: (button) => picture(button, "png"),
  };
  const picture = (button, format) => {
    const f = button.closest("figure");
    Plotly.downloadImage(f.querySelector(".plot"), { format, filename: f.id, scale: format === "png" ? 2 : 1 });
  };
  document.addEventListener("click", (e) => {
    const button = e.target.closest?.("[data-do]");
    if (button) actions[button.dataset.do](button);
  });
  // A landscape with the keyboard on it turns with the arrow keys.
  document.addEventListener("keydown", (e) => {
    const plot = e.target.closest?.(".plot[data-turn]");
    const move = { ArrowLeft: -0.15, ArrowRight: 0.15 }[e.key];
    if (!plot || !move || !plot._fullLayout?.scene) return;
    e.preventDefault();
    const { x, y, z } = plot._fullLayout.scene.camera.eye;
    Plotly.relayout(plot, { "scene.camera.eye": { x: x * Math.cos(move) - y * Math.sin(move), y: x * Math.sin(move) + y * Math.cos(move), z } });
  });
  const links = new Map(all("nav.sections a").map((a) => [a.hash.slice(1), a]));
  const watch = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    links.forEach((a) => a.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }), { rootMargin: "-20% 0px -70% 0px" });
  all("section[id], header[id]").forEach((section) => watch.observe(section));

  all("figure[data-kind=passage]").forEach(passage);
  all("details").forEach((one) => one.addEventListener("toggle", () => { if (one.open && window.Plotly) redraw(one); }));
  let width = innerWidth;
  addEventListener("resize", () => {
    if (Math.abs(innerWidth - width) > 40) { width = innerWidth; clearTimeout(redraw.later); redraw.later = setTimeout(redraw, 200); }
  });
  if (document.getElementById("plotly")) unpack().then(redraw).then(() => { root.dataset.ready = "yes"; });
  else root.dataset.ready = "yes";
})();
