// SPDX-License-Identifier: Apache-2.0
// The page of one daemon: asks its control API every two seconds and shows what it says. Text goes into the page as text only.
"use strict";

const EVERY_MS = 2000, EVENTS_SHOWN = 40, SVG = "http://www.w3.org/2000/svg";
const view = {open: new Set(), window: "day", next: 0, events: [], histories: new Map(), points: new Map(), answer: null, receiver: false, failures: 0};
const at = id => document.getElementById(id);

// --- words ---

function duration(ms) {
	if (ms === null || ms === undefined) return "–";
	if (ms < 1000) return `${Math.round(ms)} ms`;
	if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
	const s = Math.round(ms / 1000), two = n => String(n).padStart(2, "0");
	if (s < 60) return `${s} s`;
	if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
	if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
	return `${Math.floor(s / 86400)} d ${two(Math.floor(s / 3600) % 24)} h`;
}

function size(bytes) {
	if (bytes === null || bytes === undefined) return "–";
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let unit = 0;
	for (; bytes >= 1023.5 && unit < units.length - 1; unit++) bytes /= 1024;
	return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

const moment = text => text ? text.replace("T", " ").replace(/\.\d+Z$/, " Z") : "–";

// --- elements ---

function make(name, classes, text) {
	const element = document.createElement(name);
	if (classes) element.className = classes;
	if (text !== undefined) element.textContent = text;
	return element;
}

function draw(name, attributes, text) {
	const element = document.createElementNS(SVG, name);
	for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
	if (text !== undefined) element.textContent = text;
	return element;
}

function track(share, level, label) {
	const outer = make("span", `track ${level}`), inner = make("span");
	inner.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
	outer.setAttribute("role", "progressbar");
	outer.setAttribute("aria-label", label);
	outer.setAttribute("aria-valuemin", "0");
	outer.setAttribute("aria-valuemax", "100");
	outer.setAttribute("aria-valuenow", String(Math.round(Math.min(1, share) * 100)));
	outer.append(inner);
	return outer;
}

// --- how well a protection is: the daemon says it ---

const bound = p => !["failed-over", "fenced", "unprotected", "ending"].includes(p.state) && !p.fenced;
const share = p => p.age_ms === null || !p.rpo_ms || !bound(p) ? -1 : p.age_ms / p.rpo_ms; // for the bar

const rank = {ok: 0, warning: 1, critical: 2};

// --- asking ---

async function ask(path) {
	const answer = await fetch(path, {cache: "no-store", credentials: "same-origin"});
	if (answer.status === 401) throw Object.assign(new Error("token"), {token: true});
	if (!answer.ok) {
		const body = await answer.json().catch(() => null);
		throw Object.assign(new Error(body && body.error ? body.error.message : `status ${answer.status}`), {status: answer.status});
	}
	return answer.json();
}

const askMaybe = path => ask(path).catch(error => { if (error.token) throw error; return null; });

async function round() {
	try {
		if (!view.program) {
			const version = await ask("/v1/version");
			view.program = version.program;
			view.receiver = version.program.includes("receiver");
			at("role").textContent = `${view.receiver ? "receiver" : "replicator"} ${version.version}`;
			document.title = `Kagami ${view.receiver ? "receiver" : "replicator"}`;
		}
		view.answer = await ask("/v1/protections");
		for (const name of view.open) await askMore(name);
		const events = await askMaybe(`/v1/events?${view.next ? `since=${view.next}` : `newest=${EVENTS_SHOWN}`}`);
		if (events) {
			view.next = events.next;
			view.events = view.events.concat(events.events).slice(-EVENTS_SHOWN);
		}
		view.failures = 0;
		show();
		setTimeout(round, EVERY_MS);
	} catch (error) {
		if (error.token) return askToken();
		view.failures++;
		complain(`The daemon does not answer (${error.message}); what is shown is from before.`);
		setTimeout(round, Math.min(30000, EVERY_MS * 2 ** Math.min(view.failures, 4)));
	}
}

async function askMore(name) {
	const path = `/v1/protections/${encodeURIComponent(name)}`;
	view.histories.set(name, await askMaybe(`${path}/history?window=${view.window}`));
	if (view.receiver) view.points.set(name, await askMaybe(`${path}/points`));
}

function complain(text) {
	at("trouble").hidden = !text;
	at("trouble").textContent = text;
}

// The daemon wants a token: it is sent once and comes back as a cookie that scripts cannot read.
function askToken() {
	const form = make("form"), label = make("label", "", "Token "), field = make("input"), button = make("button", "", "Show");
	field.type = "password";
	field.name = "token";
	field.autocomplete = "current-password";
	label.append(field);
	form.append(label, button);
	form.addEventListener("submit", async event => {
		event.preventDefault();
		const answer = await fetch("/login", {headers: {Authorization: `Bearer ${field.value}`}, credentials: "same-origin"});
		if (!answer.ok) return complain("That is not the token.");
		complain("");
		form.remove();
		round();
	});
	at("verdict").textContent = "It asks for its token.";
	at("verdict").after(form);
	field.focus();
}

// --- showing ---

function facts(p) {
	const rows = [];
	const add = (term, text) => { if (text && text !== "–") rows.push([term, text]); };
	const last = p.last_cycle, window = p.rpo && p.rpo.age && p.rpo.age.day;
	if (last) add("last cycle", `point ${last.point}, cut ${moment(last.cut)}, took ${duration(last.duration_ms)}; ${size(last.dirty_bytes)} dirty, ${size(last.wire_bytes)} sent`);
	if (p.next_cut_in_ms !== undefined && p.next_cut_in_ms !== null) add("next cut", `in ${duration(p.next_cut_in_ms)}`);
	if (p.sync_reason) add("sync", p.sync_reason);
	if (p.dirty_bytes !== undefined) add("dirty now", size(p.dirty_bytes));
	if (p.crash_price) add("a crash now", `${size(p.crash_price.reread_bytes)} read again, at most ${size(p.crash_price.resend_bytes_max)} sent`);
	if (window) add("age, last day", `half the time below ${duration(window.p50_ms)}, 99 % below ${duration(window.p99_ms)}, at most ${duration(window.max_ms)}`);
	if (p.rpo && p.rpo.budget_left_ms !== undefined && p.rpo.budget_left_ms !== null)
		add("error budget", p.rpo.budget_left_ms < 0 ? `overdrawn by ${duration(-p.rpo.budget_left_ms)}` : `${duration(p.rpo.budget_left_ms)} left this week`);
	if (p.rpo && p.rpo.advice) add("advice", `RPO ${duration(p.rpo.advice.rpo_ms)}: ${p.rpo.advice.why}`);
	if (view.receiver) {
		add("points", `${p.points}, ${size(p.stored_bytes)} stored`);
		if (p.quota_bytes) add("quota", `${size(p.used_bytes)} of ${size(p.quota_bytes)}`);
		if (p.scrub && p.scrub.last) add("proven", `${p.scrub.last.proven_blocks} blocks, ${moment(p.scrub.last.ended)}, ${p.scrub.last.mismatches} ${p.scrub.last.mismatches === 1 ? "mismatch" : "mismatches"}`);
		if (p.scrub && p.scrub.window) add("scrubs", `${p.scrub.window} only${p.scrub.late ? ", late" : ""}`);
		if (p.failover) add("failover", `point ${p.failover.point}, ${p.failover.record_error ? "its record does not read" : `cut ${moment(p.failover.cut)}`}`);
	} else {
		add("to", p.site);
		if (p.bandwidth_used !== null) add("bandwidth", `${size(p.bandwidth_used)}/s over the last 10 s${p.bandwidth_limit ? `, of ${size(p.bandwidth_limit)}/s at the most` : ""}`);
	}
	for (const disk of p.disks || []) add(`disk ${disk.name}`, [size(disk.size_bytes), disk.path].filter(Boolean).join(", "));
	if (p.clock_offset_ms && Math.abs(p.clock_offset_ms) > 2000) add("clocks", `${duration(Math.abs(p.clock_offset_ms))} apart`);
	const list = make("dl");
	for (const [term, text] of rows) list.append(make("dt", "", term), make("dd", "", text));
	return list;
}

// The age over time: each slot's highest, in red where it passed the RPO.
function plot(history) {
	const W = 900, H = 170, left = 64, foot = 20, svg = draw("svg", {viewBox: `0 0 ${W} ${H}`, class: "plot", preserveAspectRatio: "none", role: "img"});
	const from = Date.parse(history.from), to = Date.parse(history.to);
	const top = Math.max(history.rpo_ms * 1.25, ...history.slots.map(s => s.max_ms || 0));
	const x = t => left + (t - from) / (to - from) * (W - left), y = ms => (H - foot) * (1 - ms / top);
	svg.setAttribute("aria-label", `Age of the newest point over the last ${history.window}: at most ${duration(history.age.max_ms)}, RPO ${duration(history.rpo_ms)}, missed for ${duration(history.missed_ms)}`);
	for (const slot of history.slots) {
		if (!slot.observed_ms) continue;
		const begin = x(Date.parse(slot.from)), width = Math.max(1, x(Date.parse(slot.from) + history.slot_ms) - begin);
		const bar = draw("rect", {x: begin, y: y(slot.max_ms), width, height: Math.max(1, H - foot - y(slot.max_ms)), class: slot.max_ms > history.rpo_ms ? "over" : "area"});
		bar.append(draw("title", {}, `${moment(slot.from)}: at most ${duration(slot.max_ms)}${slot.cause ? `, missed: ${slot.cause}` : ""}`));
		svg.append(bar);
	}
	svg.append(draw("line", {x1: left, x2: W, y1: y(history.rpo_ms), y2: y(history.rpo_ms), class: "bound"}),
		draw("line", {x1: left, x2: W, y1: H - foot, y2: H - foot, class: "axis"}),
		draw("text", {x: 0, y: y(history.rpo_ms) + 4}, duration(history.rpo_ms)), draw("text", {x: 0, y: 11}, y(history.rpo_ms) > 26 ? duration(top) : ""),
		draw("text", {x: left, y: H - 4}, moment(history.from)), draw("text", {x: W, y: H - 4, "text-anchor": "end"}, moment(history.to)));
	return svg;
}

// Each point at its age, which the receiver told with it: the clock here may be another.
function timeline(points) {
	const W = 900, H = 64, svg = draw("svg", {viewBox: `0 0 ${W} ${H}`, class: "points", role: "img"});
	const oldest = Math.max(1, ...points.map(point => point.age_ms));
	const x = age => 10 + (oldest - age) / oldest * (W - 20);
	svg.setAttribute("aria-label", `${points.length} point${points.length === 1 ? "" : "s"}, from ${moment(points[0].cut)} to ${moment(points[points.length - 1].cut)}`);
	svg.append(draw("line", {x1: 10, x2: W - 10, y1: 24, y2: 24, class: "axis"}));
	for (const point of points) {
		const classes = [point.pin ? "pinned" : "", point.damaged_blocks ? "damaged" : "", point.held ? "held" : ""].join(" ");
		const dot = draw("circle", {cx: x(point.age_ms), cy: 24, r: point.pin || point.held || point.damaged_blocks ? 7 : 4.5, class: classes});
		const notes = [point.pin && `pinned: ${point.pin.text}`, point.held && "in use", point.damaged_blocks && `${point.damaged_blocks} damaged block${point.damaged_blocks === 1 ? "" : "s"}`].filter(Boolean);
		dot.append(draw("title", {}, `point ${point.point}, ${moment(point.cut)}, ${size(point.stored_bytes)}${notes.length ? `; ${notes.join("; ")}` : ""}`));
		svg.append(dot);
	}
	svg.append(draw("text", {x: 10, y: 56}, moment(points[0].cut)), draw("text", {x: W - 10, y: 56, "text-anchor": "end"}, "now"));
	return svg;
}

function windows(name) {
	const bar = make("div", "windows");
	bar.setAttribute("role", "group");
	bar.setAttribute("aria-label", "How far back");
	for (const window of ["hour", "day", "week"]) {
		const button = make("button", "", window);
		button.type = "button";
		button.dataset.key = `${name}/${window}`;
		button.setAttribute("aria-pressed", String(view.window === window));
		button.addEventListener("click", async () => {
			view.window = window;
			for (const open of view.open) await askMore(open);
			show();
		});
		bar.append(button);
	}
	return bar;
}

function more(p) {
	const box = make("div", "more"), history = view.histories.get(p.name), points = view.points.get(p.name);
	box.id = `more-${p.name}`;
	box.append(facts(p));
	if (history && history.slots.length) {
		box.append(make("h3", "", "Age against the RPO"), windows(p.name), plot(history));
		const by = Object.entries(history.missed_by || {}).map(([cause, ms]) => `${cause} ${duration(ms)}`).join(", ");
		box.append(make("p", "quiet", `Missed for ${duration(history.missed_ms)} of ${duration(history.observed_ms)} observed${by ? ` (${by})` : ""}.`));
	}
	if (points && points.points.length) box.append(make("h3", "", "Points"), timeline(points.points));
	return box;
}

function work(p) {
	const pass = p.progress || (p.scrub && p.scrub.pass) || p.seed;
	if (!pass || !pass.total_bytes) return null;
	const line = make("div", "work-line"), done = pass.done_bytes / pass.total_bytes;
	const what = p.progress ? (p.sync_reason ? `sync (${p.sync_reason})` : "cycle") : p.seed ? "seed" : "scrub";
	const leftMs = pass.left_ms ?? (pass.seconds_left ? pass.seconds_left * 1000 : null); // the latter of a scrub
	const left = pass.waits_ms ? `, goes on in ${duration(pass.waits_ms)}` : leftMs !== null ? `, ${duration(leftMs)} left` : "";
	const rate = pass.bytes_per_second ? `, ${size(pass.bytes_per_second)}/s` : "";
	line.append(track(done, "work", `${what} of ${p.name}`), make("span", "", `${what}: ${Math.floor(done * 100)} %, ${size(pass.done_bytes)} of ${size(pass.total_bytes)}${rate}${left}`));
	return line;
}

async function toggle(name) {
	if (!view.open.delete(name)) {
		view.open.add(name);
		await askMore(name).catch(() => {});
	}
	show();
}

function row(p) {
	const level = p.health, item = make("li", level), head = make("button", "head"), age = make("span", "age"), part = share(p);
	head.type = "button";
	head.dataset.key = p.name;
	head.setAttribute("aria-expanded", String(view.open.has(p.name)));
	const starts = p.starting_ms !== undefined && p.starting_ms !== null; // what it has is not known yet
	const text = starts ? `starts for ${duration(p.starting_ms)}` : p.age_ms === null ? p.point_known === false ? "point not known" : "no point yet" : part < 0 ? `${duration(p.age_ms)} old` : `${duration(p.age_ms)} of ${duration(p.rpo_ms)}`;
	age.append(make("span", "", text), track(part, part > 1 ? "critical" : "", `age of ${p.name} against its RPO`));
	const last = p.last_cycle ? `${duration(p.last_cycle.duration_ms)}, ${size(p.last_cycle.wire_bytes)} sent` : view.receiver ? `${p.points} point${p.points === 1 ? "" : "s"}, ${size(p.stored_bytes)}` : "no cycle yet";
	const due = p.next_cut_in_ms !== undefined && p.next_cut_in_ms !== null ? `cut in ${duration(p.next_cut_in_ms)}` : "";
	head.append(make("span", "name", p.name), make("span", `word ${level}`, p.state), age, make("span", "figure", last), make("span", "figure", due));
	head.addEventListener("click", () => toggle(p.name));
	item.append(head);
	for (const reason of p.why) item.append(make("p", `why ${reason.level}`, reason.text));
	const bar = work(p);
	if (bar) item.append(bar);
	if (view.open.has(p.name)) item.append(more(p));
	return item;
}

function showEvents() {
	at("events").replaceChildren(...view.events.slice().reverse().map(event => {
		const item = make("li"), time = make("time", "", moment(event.when));
		const level = {critical: "critical", warning: "warning"}[event.severity] || "ok";
		time.dateTime = event.when;
		item.append(time, make("span", `word ${level}`, event.class), make("span", "text", event.protection ? `${event.protection}: ${event.text}` : event.text));
		return item;
	}));
	at("no-events").hidden = view.events.length > 0;
}

// Of one that ends, or was failed over, there is no age to tell.
function words(all) {
	const what = all.every(bound) ? ["within its RPO", "within their RPO"] : ["well", "well"];
	return all.length === 1 ? `It is ${what[0]}.` : `All ${all.length} are ${what[1]}.`;
}

function show() {
	const all = view.answer ? view.answer.protections : [];
	const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : undefined;
	const wanted = at("find").value.trim().toLowerCase(), byName = at("order").value === "name";
	const order = (a, b) => (byName ? 0 : rank[b.health] - rank[a.health] || share(b) - share(a)) || a.name.localeCompare(b.name);
	const shown = all.filter(p => p.name.includes(wanted)).sort(order);
	at("list").replaceChildren(...shown.map(row));
	if (focused) {
		const again = [...document.querySelectorAll("[data-key]")].find(element => element.dataset.key === focused);
		if (again) again.focus({preventScroll: true});
	}
	const bad = all.filter(p => p.health !== "ok").length;
	const level = all.reduce((so, p) => rank[p.health] > rank[so] ? p.health : so, "ok");
	at("verdict").className = `word ${level}`;
	const verdict = all.length === 0 ? "Nothing is protected here." : bad ? `${bad} of ${all.length} not well` : words(all);
	if (at("verdict").textContent !== verdict) at("verdict").textContent = verdict; // said aloud when it changes, and only then
	at("none").hidden = shown.length > 0 || all.length === 0;
	at("none").textContent = `No name holds "${wanted}".`;
	at("asked").textContent = new Date().toLocaleTimeString();
	complain("");
	showEvents();
}

at("find").addEventListener("input", show);
at("order").addEventListener("change", show);
round();
