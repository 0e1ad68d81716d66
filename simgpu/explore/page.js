"use strict";
// The page of `simgpu ui`: a form over a scenario, and what the simulation says of it.

const COLOURS = {
  gemm_s: "#0072b2", attention_s: "#56b4e9", experts_s: "#003f66", memory_bound_s: "#009e73", optimizer_s: "#7fcdb5", host_s: "#9a9a9a",
  exposed_tp_s: "#d55e00", exposed_cp_s: "#cc79a7", exposed_ep_s: "#7a2e00", exposed_pp_s: "#e69f00", exposed_data_s: "#f0b48f",
  exposed_offload_s: "#d8c08a", bubble_s: "",
};
const WHOLE = { type: "number", min: 1, step: 1 };
const ONE = { ...WHOLE, absent: "1" };
const CONTROLS = {
  what: [
    ["model", "Model", { list: "models" }], ["cluster", "Machine", { list: "clusters" }],
    ["hardware.cluster.nodes", "Nodes", { ...WHOLE, absent: true }],
    ["framework", "Trainer", { list: "frameworks", kinds: ["training"], absent: true }],
    ["workload.runtime", "Engine", { list: "runtimes", kinds: ["serving", "inference", "traffic"], absent: true }],
    ["workload.precision", "Precision", { list: "precisions", kinds: ["serving", "inference", "traffic"], absent: true }],
  ],
  load: [
    ["workload.batch", "Sequences a step", { ...WHOLE, slider: [1, 4096], kinds: ["training", "inference"] }],
    ["workload.tokens", "Tokens a sequence", { ...WHOLE, slider: [128, 131072], kinds: ["training", "prefill"] }],
    ["workload.train_tokens", "Tokens of the run", { type: "number", min: 1, kinds: ["training"], absent: true }],
    ["workload.concurrency", "Clients", { ...WHOLE, slider: [1, 1024], kinds: ["serving"] }],
    ["workload.rate", "Requests/s", { type: "number", min: 0, step: "any", kinds: ["traffic"], absent: true }],
    ["workload.prompt", "Prompt, tokens", { ...WHOLE, slider: [16, 131072], kinds: ["serving", "inference", "traffic"] }],
    ["workload.output", "Answer, tokens", { ...WHOLE, slider: [1, 16384], kinds: ["serving", "inference", "traffic"] }],
    ["cost.price", "USD a GPU-hour", { type: "number", min: 0, step: "any", absent: true }],
  ],
  plan: [
    ["plan.tp", "Tensor parallel", ONE], ["plan.pp", "Pipeline", ONE], ["plan.dp", "Data parallel", ONE],
    ["plan.ep", "Expert parallel", ONE], ["plan.cp", "Context parallel", { ...ONE, kinds: ["training", "prefill"] }],
    ["plan.vp", "Virtual stages", { ...ONE, kinds: ["training"] }],
    ["plan.micro_batch", "Microbatch", { ...WHOLE, kinds: ["training"], absent: true }],
    ["plan.zero", "ZeRO", { choice: ["", "0", "1", "2", "3"], number: true, kinds: ["training"], absent: true }],
    ["plan.recompute", "Recompute", { choice: ["", "none", "selective", "full"], kinds: ["training"], absent: true }],
    ["plan.sequence_parallel", "Sequence parallel", { type: "checkbox", kinds: ["training", "prefill"] }],
  ],
};

const at = (id) => document.getElementById(id);
const make = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const value = (data, key) => key.split(".").reduce((here, part) => (here == null ? undefined : here[part]), data);
const state = { starts: {}, names: {}, scenario: {}, changes: {}, factors: {}, baseline: null, last: null, asked: 0 };

function labelled(key, title, how) {
  const given = value(state.scenario, key);
  let control;
  if (how.choice) {
    control = make("select", {}, ...how.choice.map((one) => make("option", { value: one }, one || "as is usual")));
    control.value = given === undefined || given === null ? "" : String(given);
  } else if (how.type === "checkbox") {
    control = make("input", { type: "checkbox" });
    control.checked = given === true;
  } else {
    control = make("input", { type: how.type || "text", min: how.min, step: how.step, list: how.list && `of-${how.list}` });
    control.value = given ?? "";
    if (how.absent) control.placeholder = how.absent === true ? "as is usual" : how.absent;
  }
  control.id = key;
  control.dataset.key = key;
  const label = make("label", {}, title, control);
  if (how.slider) {
    const [low, high] = how.slider.map(Math.log2);
    const slider = make("input", { type: "range", min: low, max: high, step: 0.25, "aria-label": `${title}, slider` });
    slider.value = Math.log2(Number(given) || 1);
    slider.addEventListener("input", () => {
      control.value = rounded(2 ** slider.value);
      changed(key, control, how);
    });
    control.addEventListener("input", () => { slider.value = Math.log2(Number(control.value) || 1); });
    label.className = "slider";
    label.insertBefore(slider, control);
  }
  control.addEventListener("input", () => changed(key, control, how));
  return label;
}

const rounded = (number) => (number < 16 ? Math.round(number) : Math.round(number / 2 ** Math.floor(Math.log2(number) - 3)) * 2 ** Math.floor(Math.log2(number) - 3));

function changed(key, control, how) {
  let now = how.type === "checkbox" ? control.checked : control.value.trim();
  if (now === "") now = null;
  else if (how.type === "number" || how.number) now = Number(now);
  state.changes[key] = now;
  soon();
}

function draw() {
  const kind = value(state.scenario, "workload.kind");
  for (const [part, controls] of Object.entries(CONTROLS)) {
    const set = at(part);
    set.replaceChildren(set.querySelector("legend"));
    for (const [key, title, how] of controls) {
      const given = value(state.scenario, key);
      const known = given === undefined || given === null || typeof given !== "object";
      if ((!how.kinds || how.kinds.includes(kind)) && known) set.append(labelled(key, title, how));
    }
    set.hidden = set.children.length < 2;
  }
  for (const [name, list] of Object.entries(state.names)) {
    if (!at(`of-${name}`)) document.body.append(make("datalist", { id: `of-${name}` }, ...list.map((one) => make("option", { value: one }))));
  }
}

function drawFactors(inputs) {
  const set = at("factors");
  const wanted = inputs.map((one) => one.name).join();
  if (set.dataset.shown === wanted) return;
  set.dataset.shown = wanted;
  set.replaceChildren(set.querySelector("legend"));
  for (const { name, title } of inputs) {
    const slider = make("input", { type: "range", min: -1, max: 1, step: 0.05, id: `factor-${name}` });
    slider.value = Math.log2(state.factors[name] ?? 1);
    const said = make("output", { for: `factor-${name}` }, "as it is");
    const tell = () => {
      const factor = Number((2 ** slider.value).toFixed(2));
      state.factors[name] = factor;
      said.textContent = factor === 1 ? "as it is" : `x ${factor}`;
    };
    tell();
    slider.addEventListener("input", () => { tell(); soon(); });
    const label = make("label", { class: "slider" }, title, slider, said);
    set.append(label);
  }
  set.hidden = inputs.length === 0;
}

function more() {
  const found = {};
  for (const line of at("more").value.split("\n")) {
    const cut = line.indexOf("=");
    if (cut > 0) {
      const text = line.slice(cut + 1).trim();
      let read = text;
      try { read = JSON.parse(text); } catch { /* a word */ }
      found[line.slice(0, cut).trim()] = read;
    }
  }
  return found;
}

let timer = 0;
function soon() { clearTimeout(timer); timer = setTimeout(ask, 120); }

async function ask() {
  const number = ++state.asked;
  at("answer").setAttribute("aria-busy", "true");
  let answer;
  try {
    const reply = await fetch("ask", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ scenario: state.scenario, changes: { ...state.changes, ...more() }, factors: state.factors }),
    });
    answer = await reply.json();
  } catch {
    answer = { error: "The server does not answer. Is `simgpu ui` still running?" };
  }
  if (number !== state.asked) return; // a later question is on its way
  at("answer").setAttribute("aria-busy", "false");
  at("error").hidden = !answer.error;
  at("error").textContent = answer.error || "";
  at("save").disabled = Boolean(answer.error);
  if (answer.error) return;
  state.last = answer;
  show(answer);
}

function show(answer) {
  drawFactors(answer.inputs);
  at("distance").textContent = answer.distance.join(". ");
  at("figures").replaceChildren(...answer.figures.map(figure));
  const parts = answer.parts;
  const total = parts.reduce((sum, one) => sum + one.seconds, 0) || 1;
  at("parts-head").hidden = parts.length === 0;
  const look = (one) => (COLOURS[one.column] ? {} : { class: "hatched" });
  const painted = (element, one) => { if (COLOURS[one.column]) element.style.background = COLOURS[one.column]; return element; };
  const bar = make("div", { class: "stack", role: "img", "aria-label": parts.map((one) => `${one.title} ${share(one, total)}`).join(", ") });
  for (const one of parts) {
    const piece = painted(make("span", { ...look(one), title: `${one.title} ${share(one, total)}` }), one);
    piece.style.width = `${(100 * one.seconds) / total}%`;
    bar.append(piece);
  }
  at("parts").replaceChildren(...(parts.length ? [bar] : []));
  at("legend").replaceChildren(...parts.filter((one) => one.seconds / total > 0.002)
    .map((one) => make("li", {}, painted(make("i", look(one)), one), `${one.title} ${share(one, total)}`)));
  const memory = answer.memory;
  at("memory").hidden = at("memory-head").hidden = !memory;
  if (memory) {
    const full = memory.used / memory.capacity;
    at("used").style.width = `${Math.min(100, 100 * full)}%`;
    at("used").className = full > 1 ? "over" : "";
    at("memory-text").textContent = `${memory.text} of ${(memory.capacity / 2 ** 30).toFixed(1)} GiB; fits: ${memory.fits}`;
  }
  at("notes").replaceChildren(...answer.notes.map((note) => make("li", {}, note)));
  at("file").textContent = answer.file;
}

const share = (one, total) => `${((100 * one.seconds) / total).toFixed(1)} %`;

function figure(one) {
  const [first, ...rest] = one.text.split(" (");
  const box = make("div", { class: "figure", title: one.about }, make("span", {}, one.title), make("b", {}, first));
  if (rest.length) box.append(make("span", {}, `80 %: ${rest.join(" (").replace(/\)$/, "")}`));
  const before = state.baseline && state.baseline.figures.find((other) => other.column === one.column);
  if (before && before.value && one.value !== null) {
    const ratio = one.value / before.value;
    const good = one.better && Math.abs(ratio - 1) > 5e-4 ? ((ratio > 1) === (one.better === "higher") ? ", better" : ", worse") : "";
    box.append(make("span", { class: "than" }, `${ratio.toPrecision(3)} times the baseline${good}`));
  }
  if (one.interval) box.append(line(one, before));
  return box;
}

function line(one, before) {
  const ends = [...one.interval, one.value, ...(before && before.interval ? [...before.interval, before.value] : [])];
  const low = Math.min(...ends), high = Math.max(...ends), wide = high - low || 1;
  const x = (number) => 2 + (96 * (number - low)) / wide;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const put = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
    svg.append(made);
  };
  put("line", { x1: `${x(one.interval[0])}%`, x2: `${x(one.interval[1])}%`, y1: "50%", y2: "50%", stroke: "currentColor", "stroke-width": 2 });
  put("circle", { cx: `${x(one.value)}%`, cy: "50%", r: 4, fill: "currentColor" });
  if (before && before.value !== null) put("circle", { cx: `${x(before.value)}%`, cy: "50%", r: 5, fill: "none", stroke: "currentColor", "stroke-width": 1.5 });
  return svg;
}

function begin(name) {
  Object.assign(state, { scenario: state.starts[name], changes: {}, factors: {}, baseline: null });
  at("factors").dataset.shown = "-";
  at("more").value = "";
  at("unpin").hidden = true;
  draw();
  ask();
}

at("starts").addEventListener("change", (event) => begin(event.target.value));
at("more").addEventListener("input", soon);
at("form").addEventListener("submit", (event) => event.preventDefault());
at("pin").addEventListener("click", () => { state.baseline = state.last; at("unpin").hidden = !state.last; if (state.last) show(state.last); });
at("unpin").addEventListener("click", () => { state.baseline = null; at("unpin").hidden = true; if (state.last) show(state.last); });
at("save").addEventListener("click", () => {
  if (!state.last) return;
  const link = make("a", { href: URL.createObjectURL(new Blob([state.last.file], { type: "text/yaml" })), download: "mine.yaml" });
  link.click();
  URL.revokeObjectURL(link.href);
});

fetch("start").then((reply) => reply.json()).then((found) => {
  Object.assign(state, { starts: found.starts, names: found.names });
  at("version").textContent = found.version;
  at("starts").replaceChildren(...Object.keys(found.starts).map((one) => make("option", { value: one }, one)));
  begin(Object.keys(found.starts)[0]);
});
