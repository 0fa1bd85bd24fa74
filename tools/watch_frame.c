// SPDX-License-Identifier: Apache-2.0
#include "tools/watch_frame.h"

#include "base/size.h"
#include "link/health.h"
#include "tools/show.h"
#include "tools/text.h"

#include <stdlib.h>
#include <string.h>

#define BOLD "\033[1m"
#define DIM "\033[2m"
#define PLAIN "\033[0m"

enum { ITEM_LINES = 3, NAME_CELLS_MAX = 24, STATE_CELLS = 12, BAR_CELLS = 10, WIDE = 110, EVENTS_LEAST_ROWS = 14, EVENTS_SHOWN = 6 };

struct item {
	const json_t *json;
	bool target;
	enum health health;
	double urgency; // the age in parts of the RPO
	char why[HEALTH_WHY];
};

struct frame {
	const struct watch_view *view;
	unsigned columns, rows, count;
	char **lines;
	unsigned name_cells;
	bool both; // sides are told apart
};

static void style(const struct frame *frame, struct line *line, const char *escape)
{
	if (frame->view->colour)
		line_style(line, escape);
}

static const char *colour_of(enum health health)
{
	static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m"};
	return colours[health];
}

static void push(struct frame *frame, const struct line *line)
{
	if (frame->count >= frame->rows)
		return;
	frame->lines[frame->count] = strdup(line->text);
	if (!frame->lines[frame->count++])
		abort();
}

// --- what there is ---

static const struct watch_view *sorting; // qsort() has no context; one thread draws

static int by_order(const void *a, const void *b)
{
	const struct item *one = a, *other = b;
	if (!sorting->by_name && one->health != other->health)
		return one->health > other->health ? -1 : 1;
	if (!sorting->by_name && one->urgency != other->urgency)
		return one->urgency > other->urgency ? -1 : 1;
	int order = strcmp(show_text_of(one->json, "name"), show_text_of(other->json, "name"));
	return order ? order : one->target - other->target;
}

static void gather(struct frame *frame, const json_t *answer, bool target, struct item *items, unsigned *count)
{
	const json_t *json;
	size_t i;
	json_array_foreach(json_object_get(answer, "protections"), i, json) {
		struct item *item = &items[*count];
		const char *name = show_text_of(json, "name");
		if (frame->view->only && strcmp(frame->view->only, name) != 0)
			continue;
		item->json = json;
		item->target = target;
		item->health = health_of(json, target, health_limits_default, item->why);
		item->urgency = health_age(json);
		unsigned width = text_width(name);
		frame->name_cells = width > frame->name_cells ? width : frame->name_cells;
		(*count)++;
	}
}

// --- a protection ---

static void add_age(const struct frame *frame, struct line *line, const struct item *item)
{
	char text[80] = "no point yet";
	if (item->urgency >= 0)
		(void)snprintf(text, sizeof(text), "%.20s of %.20s", show_duration_of(item->json, "age_ms").text, show_duration_of(item->json, "rpo_ms").text);
	else if (show_has(item->json, "starting_ms")) // what it has is not known yet
		(void)snprintf(text, sizeof(text), "starts for %.20s", show_duration_of(item->json, "starting_ms").text);
	else if (show_has(item->json, "age_ms"))
		(void)snprintf(text, sizeof(text), "%.20s", show_duration_of(item->json, "age_ms").text);
	else if (json_is_false(json_object_get(item->json, "point_known")))
		(void)snprintf(text, sizeof(text), "not known");
	enum health age = item->urgency > 1 ? HEALTH_CRITICAL : HEALTH_OK;
	style(frame, line, colour_of(age));
	line_bar(line, BAR_CELLS, item->urgency, frame->view->blocks);
	style(frame, line, PLAIN);
	line_add(line, " ");
	line_cell(line, 15, 0, text);
}

static void add_source_cells(struct line *line, const json_t *json)
{
	char text[120] = "-";
	const json_t *last = json_object_get(json, "last_cycle"), *price = json_object_get(json, "crash_price");
	line_cell(line, 8, 1, show_size_of(json, "dirty_bytes").text);
	if (json_is_object(last))
		(void)snprintf(text, sizeof(text), "%.8s %.9s", show_duration_of(last, "duration_ms").text, show_size_of(last, "wire_bytes").text);
	line_cell(line, 15, 0, text);
	line_cell(line, 7, 1, show_duration_of(json, "next_cut_in_ms").text);
	if (line->cells >= WIDE) {
		(void)snprintf(text, sizeof(text), "crash %.10s", show_size_of(price, "reread_bytes").text);
		line_cell(line, 15, 0, text);
		(void)snprintf(text, sizeof(text), "point %.20s", show_integer_of(json, "point").text);
		line_cell(line, 12, 0, text);
		line_cell(line, 12, 0, show_text_of(json, "site"));
	}
}

static void add_target_cells(struct line *line, const json_t *json)
{
	char text[80];
	bool one = show_number_of(json, "points") == 1;
	(void)snprintf(text, sizeof(text), "%.12s point%s, %.12s", show_integer_of(json, "points").text, one ? "" : "s", show_size_of(json, "stored_bytes").text);
	line_cell(line, 32, 0, text);
	if (line->cells >= WIDE)
		line_cell(line, 23, 0, show_time_of(json, "last_cut").text);
}

static void push_progress(struct frame *frame, const json_t *progress)
{
	struct line line;
	uint64_t done = show_number_of(progress, "done_bytes"), total = show_number_of(progress, "total_bytes");
	if (!total)
		return;
	line_begin(&line, frame->columns);
	line_pad(&line, frame->name_cells + 3);
	line_bar(&line, frame->columns > 70 ? 20 : 10, (double)done / (double)total, frame->view->blocks);
	line_add(&line, " %3.0f%%  %s of %s", 100 * (double)done / (double)total, show_size(done).text, show_size(total).text);
	if (show_has(progress, "bytes_per_second"))
		line_add(&line, ", %s/s", show_size_of(progress, "bytes_per_second").text);
	if (show_has(progress, "left_ms"))
		line_add(&line, ", %s left", show_duration_of(progress, "left_ms").text);
	if (show_has(progress, "seconds_left")) // a scrub
		line_add(&line, ", %s left", show_duration(show_number_of(progress, "seconds_left") * 1000).text);
	if (show_has(progress, "waits_ms"))
		line_add(&line, ", goes on in %s", show_duration_of(progress, "waits_ms").text);
	push(frame, &line);
}

static void push_item(struct frame *frame, const struct item *item)
{
	struct line line;
	char state[64];
	line_begin(&line, frame->columns);
	style(frame, &line, item->health ? BOLD : "");
	line_add(&line, " ");
	line_cell(&line, frame->name_cells, 0, show_text_of(item->json, "name"));
	style(frame, &line, PLAIN);
	style(frame, &line, colour_of(item->health));
	(void)snprintf(state, sizeof(state), "%.60s", show_text_of(item->json, "state"));
	line_cell(&line, STATE_CELLS, 0, state);
	style(frame, &line, PLAIN);
	add_age(frame, &line, item);
	if (item->target)
		add_target_cells(&line, item->json);
	else
		add_source_cells(&line, item->json);
	push(frame, &line);
	push_progress(frame, json_object_get(item->json, "progress"));
	push_progress(frame, json_object_get(json_object_get(item->json, "scrub"), "pass"));
	if (!item->why[0])
		return;
	line_begin(&line, frame->columns);
	line_pad(&line, frame->name_cells + 3);
	style(frame, &line, colour_of(item->health));
	line_add(&line, "! %s", item->why);
	push(frame, &line);
}

// --- the screen ---

static void push_title(struct frame *frame, const struct item *items, unsigned count)
{
	struct line line;
	unsigned unwell = 0;
	enum health worst = HEALTH_OK;
	char verdict[64];
	for (unsigned i = 0; i < count; i++) {
		unwell += items[i].health != HEALTH_OK;
		worst = items[i].health > worst ? items[i].health : worst;
	}
	if (unwell)
		(void)snprintf(verdict, sizeof(verdict), "%u of %u not well", unwell, count);
	else
		(void)snprintf(verdict, sizeof(verdict), count == 1 ? "%u is well" : "all %u are well", count);
	line_begin(&line, frame->columns);
	style(frame, &line, BOLD);
	line_add(&line, " kagami  %s", frame->view->host);
	style(frame, &line, PLAIN);
	line_add(&line, "   ");
	style(frame, &line, colour_of(worst));
	line_add(&line, "%s", count ? verdict : "");
	style(frame, &line, PLAIN);
	if (line.used + 14 < frame->columns)
		line_pad(&line, frame->columns - 10);
	const char *time = strchr(frame->view->now, 'T');
	line_add(&line, " %.8s", time ? time + 1 : "");
	push(frame, &line);
}

static void push_daemon(struct frame *frame, const char *error)
{
	struct line line;
	if (!error || !error[0])
		return;
	line_begin(&line, frame->columns);
	style(frame, &line, colour_of(HEALTH_CRITICAL));
	line_add(&line, " ! %s", error);
	push(frame, &line);
}

static void push_headings(struct frame *frame)
{
	struct line line;
	line_begin(&line, frame->columns);
	style(frame, &line, DIM);
	line_add(&line, " ");
	line_cell(&line, frame->name_cells, 0, "NAME");
	line_cell(&line, STATE_CELLS, 0, "STATE");
	line_cell(&line, BAR_CELLS + 16, 0, "AGE OF RPO");
	if (frame->view->source) {
		line_cell(&line, 8, 1, "DIRTY");
		line_cell(&line, 15, 0, "LAST CYCLE");
		line_cell(&line, 7, 1, "NEXT IN");
	} else {
		line_cell(&line, 32, 0, "POINTS");
	}
	push(frame, &line);
}

static void push_event(struct frame *frame, const json_t *event)
{
	struct line line;
	const char *when = strchr(show_text_of(event, "when"), 'T'), *severity = show_text_of(event, "severity");
	line_begin(&line, frame->columns);
	line_add(&line, " %.8s  ", when ? when + 1 : "");
	style(frame, &line, colour_of(strcmp(severity, "critical") == 0 ? HEALTH_CRITICAL : strcmp(severity, "warning") == 0 ? HEALTH_WARNING : HEALTH_OK));
	line_cell(&line, 12, 0, show_text_of(event, "class"));
	style(frame, &line, PLAIN);
	if (show_has(event, "protection"))
		line_add(&line, "%s: ", show_text_of(event, "protection"));
	line_add(&line, "%s", show_text_of(event, "text"));
	push(frame, &line);
}

// The newest events, at the foot.
static void push_events(struct frame *frame, unsigned most)
{
	struct line line;
	size_t count = json_array_size(frame->view->events), first = count > most ? count - most : 0;
	line_begin(&line, frame->columns);
	style(frame, &line, DIM);
	line_add(&line, " EVENTS");
	push(frame, &line);
	for (size_t i = first; i < count; i++)
		push_event(frame, json_array_get(frame->view->events, i));
}

static unsigned item_lines(const struct item *item)
{
	bool bar = show_number_of(json_object_get(item->json, "progress"), "total_bytes") ||
		   show_number_of(json_object_get(json_object_get(item->json, "scrub"), "pass"), "total_bytes");
	return 1 + bar + (item->why[0] != 0);
}

// How many items from `first` on fit into `room` lines.
static unsigned fitting(const struct item *items, unsigned first, unsigned count, unsigned room)
{
	unsigned n = 0;
	for (unsigned used = 0; first + n < count && (used += item_lines(&items[first + n])) <= room;)
		n++;
	return n;
}

static void push_foot(struct frame *frame, unsigned first, unsigned shown, unsigned count)
{
	struct line line;
	while (frame->count + 1 < frame->rows) {
		line_begin(&line, frame->columns);
		push(frame, &line);
	}
	line_begin(&line, frame->columns);
	style(frame, &line, DIM);
	line_add(&line, " q quit   s %s", frame->view->by_name ? "worst first" : "by name");
	if (shown < count)
		line_add(&line, "   up, down: %u to %u of %u", first + 1, first + shown, count);
	push(frame, &line);
}

static void push_body(struct frame *frame, const struct item *items, unsigned count, unsigned *ret_scroll)
{
	size_t events = json_array_size(frame->view->events);
	unsigned foot = events && frame->rows >= EVENTS_LEAST_ROWS ? (unsigned)min_u64(events, EVENTS_SHOWN) + 1 : 0;
	unsigned room = frame->rows - frame->count > foot + 1 ? frame->rows - frame->count - foot - 1 : 0;
	unsigned first = *ret_scroll < count ? *ret_scroll : count ? count - 1 : 0;
	while (first > 0 && first - 1 + fitting(items, first - 1, count, room) >= count)
		first--; // no empty lines below the last one while there is something above
	unsigned shown = fitting(items, first, count, room);
	for (unsigned i = 0; i < shown; i++)
		push_item(frame, &items[first + i]);
	*ret_scroll = first;
	struct line line;
	line_begin(&line, frame->columns);
	while (foot && frame->count + foot + 1 < frame->rows)
		push(frame, &line);
	if (foot)
		push_events(frame, foot - 1);
	push_foot(frame, first, shown, count);
}

unsigned watch_frame(const struct watch_view *view, unsigned columns, unsigned rows, char **lines, unsigned *ret_items, unsigned *ret_scroll)
{
	struct frame frame = {.view = view, .columns = columns, .rows = rows, .lines = lines, .name_cells = 4};
	size_t most = json_array_size(json_object_get(view->source, "protections")) + json_array_size(json_object_get(view->target, "protections"));
	struct item *items = calloc(most + 1, sizeof(*items));
	unsigned count = 0;
	if (!items)
		abort();
	gather(&frame, view->source, false, items, &count);
	gather(&frame, view->target, true, items, &count);
	sorting = view;
	qsort(items, count, sizeof(*items), by_order);
	if (frame.name_cells > NAME_CELLS_MAX)
		frame.name_cells = NAME_CELLS_MAX;
	push_title(&frame, items, count);
	push_daemon(&frame, view->source_error);
	push_daemon(&frame, view->target_error);
	if (count)
		push_headings(&frame);
	*ret_items = count;
	*ret_scroll = view->scroll;
	push_body(&frame, items, count, ret_scroll);
	free(items);
	return frame.count;
}
