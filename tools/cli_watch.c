// SPDX-License-Identifier: Apache-2.0
// `kagami watch`: the state of everything here, live in the terminal.
//
// A thread for each daemon asks it once a second, so that one that is slow to answer keeps neither the keys nor the other daemon's half of the screen
// waiting; the main thread draws and listens.
#include "base/auto.h"
#include "base/clock.h"
#include "base/when.h"
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/screen.h"
#include "tools/show.h"
#include "tools/watch_frame.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ASK_EVERY_MS = 1000, LOOK_EVERY_MS = 200, SILENT_MS = 5000, BOTH = 1U << HTTP_REPLICATOR | 1U << HTTP_RECEIVER };

struct watch;
struct side {
	struct watch *watch;
	enum http_daemon daemon;
	pthread_t thread;
	bool started;
	json_t *answer; // the newest; NULL: none
	char error[ERR_TEXT_MAX];
	uint64_t next_event;
	bool ever;	   // it answered once
	int64_t asked_ms;  // since when an answer is awaited; 0: none is
};

struct watch {
	const char *run_dir, *only; // the name of the one that is watched; NULL: all
	pthread_mutex_t lock;
	pthread_cond_t stopped;
	struct side side[2];
	json_t *events;
	unsigned version, asked; // daemons that were asked once
	bool stop, looked;
};

// Only a daemon that is there and answers badly, or one that was there, is worth a line.
static void side_failed(struct side *side, const struct err *err)
{
	json_decref(side->answer);
	side->answer = NULL;
	bool absent = err->code == -ENOENT || err->code == -ECONNREFUSED;
	if (absent && !side->ever)
		side->error[0] = 0;
	else if (absent)
		(void)snprintf(side->error, sizeof(side->error), "%s does not run any more", http_daemon_name(side->daemon));
	else
		(void)snprintf(side->error, sizeof(side->error), "%s", err->text);
}

// In the order of time, whichever daemon they are of.
static void events_add(struct watch *watch, const json_t *reply)
{
	size_t i;
	json_t *event;
	json_array_foreach(json_object_get(reply, "events"), i, event) {
		size_t at = json_array_size(watch->events);
		while (at > 0 && strcmp(show_text_of(json_array_get(watch->events, at - 1), "when"), show_text_of(event, "when")) > 0)
			at--;
		(void)json_array_insert(watch->events, at, event);
	}
	while (json_array_size(watch->events) > WATCH_EVENTS)
		(void)json_array_remove(watch->events, 0);
}

static void ask_events(struct side *side)
{
	struct watch *watch = side->watch;
	char path[64 + 2 * NAME_SIZE];
	struct err err = {0};
	struct http_reply reply;
	const char *of = watch->only ? "&protection=" : "", *name = watch->only ? watch->only : "";
	if (side->next_event == 0) // an answer has the oldest 1000 of what there is: it would take rounds to come to the newest
		(void)snprintf(path, sizeof(path), "/v1/events?newest=%d%s%s", WATCH_EVENTS, of, name);
	else
		(void)snprintf(path, sizeof(path), "/v1/events?since=%llu%s%s", (unsigned long long)side->next_event, of, name);
	if (http_ask(watch->run_dir, side->daemon, "GET", path, NULL, &reply, &err))
		return;
	show_clean(reply.body);
	LOCK_SCOPE(&watch->lock);
	if (reply.status == 200) {
		events_add(watch, reply.body);
		side->next_event = show_number_of(reply.body, "next");
	}
	json_decref(reply.body);
}

static void ask(struct side *side)
{
	struct watch *watch = side->watch;
	struct err err = {0};
	struct http_reply reply = {.body = NULL};
	int rc = http_ask(watch->run_dir, side->daemon, "GET", "/v1/protections", NULL, &reply, &err);
	if (!rc && reply.status != 200)
		rc = err_set(&err, -EPROTO, "%s answers with status %ld: see its log", http_daemon_name(side->daemon), reply.status);
	show_clean(reply.body);
	{
		LOCK_SCOPE(&watch->lock);
		watch->version++;
		watch->asked |= 1U << side->daemon;
		if (rc) {
			side_failed(side, &err);
			json_decref(reply.body);
			return;
		}
		json_decref(side->answer);
		side->answer = reply.body;
		side->error[0] = 0;
		side->ever = true;
	}
	ask_events(side);
}

// Until the next round. False: there is none.
static bool rest(struct side *side)
{
	struct watch *watch = side->watch;
	struct timespec until = clock_mono_after(ASK_EVERY_MS * UINT64_C(1000000));
	LOCK_SCOPE(&watch->lock);
	side->asked_ms = 0;
	while (!watch->stop && pthread_cond_clockwait(&watch->stopped, &watch->lock, CLOCK_MONOTONIC, &until) != ETIMEDOUT)
		;
	side->asked_ms = clock_mono_ms();
	return !watch->stop;
}

static void *asking(void *context)
{
	struct side *side = context;
	do {
		ask(side);
	} while (rest(side));
	return NULL;
}

// What is to be said of a daemon: that it does not answer, by its name and where it was asked, or why it answers badly. With the lock held.
static const char *side_trouble(const struct side *side, char slow[ERR_TEXT_MAX])
{
	char socket[256];
	struct err err = {0};
	int64_t waiting_ms = side->asked_ms ? clock_mono_ms() - side->asked_ms : 0;
	if (waiting_ms <= SILENT_MS)
		return side->error;
	if (http_socket_path(side->watch->run_dir, side->daemon, socket, sizeof(socket), &err)) // then it was not asked either
		return side->error;
	(void)snprintf(slow, ERR_TEXT_MAX, "%s has not answered for %s at %s%s", http_daemon_name(side->daemon), show_duration((uint64_t)waiting_ms).text, socket,
		       side->answer ? "; what is shown of it is from before" : "");
	return slow;
}

static void draw(struct watch *watch, struct screen *screen, struct watch_view *view, unsigned *items)
{
	char *lines[SCREEN_ROWS_MAX], now[WHEN_SIZE], slow[2][ERR_TEXT_MAX];
	unsigned count;
	when_format(clock_wall_ns(), now);
	{
		LOCK_SCOPE(&watch->lock);
		view->now = now;
		view->source = watch->side[HTTP_REPLICATOR].answer;
		view->target = watch->side[HTTP_RECEIVER].answer;
		view->source_error = side_trouble(&watch->side[HTTP_REPLICATOR], slow[HTTP_REPLICATOR]);
		view->target_error = side_trouble(&watch->side[HTTP_RECEIVER], slow[HTTP_RECEIVER]);
		view->events = watch->events;
		if (watch->asked == BOTH && !view->source && !view->target && !view->source_error[0] && !view->target_error[0])
			view->source_error = "neither kagami-replicator nor kagami-receiver answers here: start one, or say where with --run-dir";
		view->blocks = screen->blocks;
		view->colour = screen->colour;
		count = watch_frame(view, screen->columns, screen->rows, lines, items, &view->scroll);
		view->now = view->source_error = view->target_error = NULL; // they end here
	}
	screen_draw(screen, lines, count);
	for (unsigned i = 0; i < count; i++)
		free(lines[i]);
}

static void scroll(struct watch_view *view, enum screen_key key, unsigned page, unsigned items)
{
	unsigned last = items ? items - 1 : 0;
	switch (key) {
	case KEY_UP: view->scroll -= view->scroll > 0; break;
	case KEY_DOWN: view->scroll += view->scroll < last; break;
	case KEY_PAGE_UP: view->scroll -= view->scroll > page ? page : view->scroll; break;
	case KEY_PAGE_DOWN: view->scroll = view->scroll + page < last ? view->scroll + page : last; break;
	case KEY_HOME: view->scroll = 0; break;
	case KEY_END: view->scroll = last; break;
	default: break;
	}
}

static bool has_it(const struct side *side, const char *name)
{
	size_t i;
	const json_t *one;
	json_array_foreach(json_object_get(side->answer, "protections"), i, one)
		if (strcmp(show_text_of(one, "name"), name) == 0)
			return true;
	return false;
}

// Whether nobody here knows the one that is to be watched, as soon as both were asked. What could not be asked may have it.
static bool is_unknown(struct watch *watch)
{
	LOCK_SCOPE(&watch->lock);
	const struct side *source = &watch->side[HTTP_REPLICATOR], *target = &watch->side[HTTP_RECEIVER];
	if (!watch->only || watch->looked || watch->asked != BOTH)
		return false;
	watch->looked = true; // one that ends while it is watched was known
	if (source->error[0] || target->error[0] || (!source->answer && !target->answer))
		return false;
	return !has_it(source, watch->only) && !has_it(target, watch->only);
}

// False: what is to be watched is unknown.
static bool watch_loop(struct watch *watch, struct screen *screen, struct watch_view *view)
{
	unsigned drawn = 0, items = 0;
	int64_t drawn_ms = 0;
	for (bool again = true;;) {
		unsigned version;
		if (is_unknown(watch))
			return false;
		{
			LOCK_SCOPE(&watch->lock);
			version = watch->version;
		}
		if (again || version != drawn || clock_mono_ms() - drawn_ms >= ASK_EVERY_MS) {
			draw(watch, screen, view, &items);
			drawn = version;
			drawn_ms = clock_mono_ms();
		}
		char other = 0;
		enum screen_key key = screen_wait(screen, LOOK_EVERY_MS, &other);
		if (key == KEY_QUIT)
			return true;
		again = key != KEY_NONE;
		if (key == KEY_OTHER && other == 's')
			view->by_name = !view->by_name;
		scroll(view, key, screen->rows / 2, items);
	}
}

// Signals are for the one that draws.
static int begin(struct watch *watch)
{
	sigset_t all, before;
	int rc = 0;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER && !rc; daemon++) {
		struct side *side = &watch->side[daemon];
		side->watch = watch;
		side->daemon = daemon;
		side->asked_ms = clock_mono_ms();
		rc = pthread_create(&side->thread, NULL, asking, side);
		side->started = rc == 0;
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

static void end(struct watch *watch, int status)
{
	{
		LOCK_SCOPE(&watch->lock);
		watch->stop = true;
		(void)pthread_cond_broadcast(&watch->stopped);
		for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER; daemon++)
			if (watch->side[daemon].asked_ms && clock_mono_ms() - watch->side[daemon].asked_ms > ASK_EVERY_MS)
				exit(status); // a daemon that does not answer does not keep the operator here
	}
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER; daemon++) {
		if (watch->side[daemon].started)
			(void)pthread_join(watch->side[daemon].thread, NULL);
		json_decref(watch->side[daemon].answer);
	}
	json_decref(watch->events);
}

int cli_watch(const struct cli *cli)
{
	struct watch watch = {.run_dir = cli->run_dir, .only = cli->argc ? cli->argv[0] : NULL, .lock = PTHREAD_MUTEX_INITIALIZER,
			      .stopped = PTHREAD_COND_INITIALIZER};
	struct watch_view view = {.only = watch.only};
	struct screen screen;
	struct err err = {0};
	char host[64] = "";
	if (cli->argc && parse_name("protection", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	if (cli->json)
		return cli_misused(cli, "it draws on a terminal; \"kagami status --json\" is for programs");
	if (screen_begin(&screen, &err))
		return cli_fail(cli, CLI_USAGE, "%s", err.text);
	(void)gethostname(host, sizeof(host) - 1);
	view.host = host;
	watch.events = json_array();
	int rc = begin(&watch);
	bool known = rc || watch_loop(&watch, &screen, &view);
	screen_end(&screen);
	int status = rc     ? cli_fail(cli, CLI_REFUSED, "cannot begin a thread: %s", strerror(rc))
		     : known ? CLI_DONE
			     : cli_fail(cli, CLI_REFUSED, "no protection is named \"%s\" here: \"kagami status\" lists them", watch.only);
	end(&watch, status);
	return status;
}
