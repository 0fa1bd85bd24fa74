// SPDX-License-Identifier: Apache-2.0
// `kagami history`: how old the newest point was over the last hour, day or week, what was missed, and why.
#include "tools/cli.h"
#include "tools/parse.h"
#include "tools/plot.h"
#include "tools/show.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { PLOT_ROWS = 8, PLOT_MARGIN = 12, PLOT_COLUMNS = 66, PLOT_COLUMNS_MAX = 400, MISSES_SHOWN = 10 };

static const char *label(double ms)
{
	static struct shown shown; // one thread prints
	shown = show_duration((uint64_t)ms);
	return shown.text;
}

static unsigned plot_width(void)
{
	struct winsize size;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_col <= PLOT_MARGIN + 20)
		return PLOT_COLUMNS;
	unsigned columns = size.ws_col - PLOT_MARGIN;
	return columns < PLOT_COLUMNS_MAX ? columns : PLOT_COLUMNS_MAX;
}

// Each slot as wide as the time that it stands for, so that a plot of 24 quarters of an hour has no gaps.
static void fill(const json_t *history, double *value, unsigned columns)
{
	int64_t from, to, at;
	const json_t *slot;
	size_t i;
	uint64_t slot_ms = show_number_of(history, "slot_ms");
	for (unsigned c = 0; c < columns; c++)
		value[c] = -1;
	if (parse_time(show_text_of(history, "from"), &from) || parse_time(show_text_of(history, "to"), &to) || to <= from)
		return;
	json_array_foreach(json_object_get(history, "slots"), i, slot) {
		if (parse_time(show_text_of(slot, "from"), &at) || !show_number_of(slot, "observed_ms"))
			continue;
		double begin = (double)(at - from) / (double)(to - from) * columns, end = begin + (double)slot_ms / (double)(to - from) * columns;
		double max = (double)show_number_of(slot, "max_ms");
		for (unsigned c = begin > 0 ? (unsigned)begin : 0; c < columns && ((double)c < end || c == (unsigned)begin); c++)
			value[c] = max > value[c] ? max : value[c];
	}
}

static void print_plot(const json_t *history)
{
	double value[PLOT_COLUMNS_MAX];
	char from[32], to[32];
	(void)snprintf(from, sizeof(from), "%.16s", show_time_of(history, "from").text);
	(void)snprintf(to, sizeof(to), "%.5s", show_time_of(history, "to").text + 11);
	(void)setlocale(LC_CTYPE, "");
	const char *no_colour = getenv("NO_COLOR");
	struct plot plot = {
		.value = value,
		.columns = plot_width(),
		.rows = PLOT_ROWS,
		.bound = (double)show_number_of(history, "rpo_ms"),
		.blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
		.colour = isatty(STDOUT_FILENO) && (!no_colour || !no_colour[0]),
		.label = label,
		.from = from,
		.to = to,
	};
	fill(history, value, plot.columns);
	plot_print(&plot, stdout);
}

static void print_sums(const json_t *history)
{
	const json_t *age = json_object_get(history, "age"), *advice = json_object_get(history, "advice"), *by, *missed;
	const char *cause;
	(void)printf("\nage      now %s, half the time below %s, 99%% below %s, at most %s\n", show_duration_of(age, "current_ms").text,
		     show_duration_of(age, "p50_ms").text, show_duration_of(age, "p99_ms").text, show_duration_of(age, "max_ms").text);
	(void)printf("missed   %s of %s observed", show_duration_of(history, "missed_ms").text, show_duration_of(history, "observed_ms").text);
	if (show_number_of(history, "unobserved_ms"))
		(void)printf("; %s not observed", show_duration_of(history, "unobserved_ms").text);
	by = json_object_get(history, "missed_by");
	json_object_foreach((json_t *)by, cause, missed)
		(void)printf(", %s: %s", cause, show_duration((uint64_t)json_integer_value(missed)).text);
	json_int_t left = json_integer_value(json_object_get(history, "budget_left_ms"));
	(void)printf("\nbudget   %.6g%% of the time within the RPO: %s may be missed in a week, ",
		     100 * json_number_value(json_object_get(history, "objective")), show_duration_of(history, "budget_ms").text);
	if (left < 0)
		(void)printf("and %s more than that was\n", show_duration((uint64_t)-left).text);
	else
		(void)printf("of which %s is left\n", show_duration((uint64_t)left).text);
	if (json_is_object(advice))
		(void)printf("advice   RPO %s: %s\n", show_duration_of(advice, "rpo_ms").text, show_text_of(advice, "why"));
}

static void print_misses(const json_t *misses)
{
	const json_t *miss;
	size_t i;
	if (json_array_size(misses) == 0)
		return;
	struct table *table = table_new("llll");
	table_add(table, "MISSED FROM\tTO\tCAUSE\tOLDEST");
	json_array_foreach(misses, i, miss) {
		if (i == MISSES_SHOWN)
			break;
		table_add(table, "%.19s\t%.19s\t%s\t%s", show_time_of(miss, "began").text, show_has(miss, "ended") ? show_time_of(miss, "ended").text : "now",
			  show_text_of(miss, "cause"), show_duration_of(miss, "max_age_ms").text);
	}
	if (json_array_size(misses) > MISSES_SHOWN)
		table_note(table, "and %zu more: --json has them", json_array_size(misses) - MISSES_SHOWN);
	(void)putchar('\n');
	table_print(table, stdout);
}

static void print_history(const json_t *history, enum http_daemon daemon)
{
	(void)printf("%s, as %s counted it: the last %s\n\n", show_text_of(history, "name"), http_daemon_name(daemon), show_text_of(history, "window"));
	print_plot(history);
	print_sums(history);
	print_misses(json_object_get(history, "misses"));
}

int cli_history(const struct cli *cli)
{
	struct err err = {0};
	json_t *history;
	const char *window = cli->option[OPT_WINDOW] ? cli->option[OPT_WINDOW] : "day";
	if (parse_name("protection", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	if (strcmp(window, "hour") != 0 && strcmp(window, "day") != 0 && strcmp(window, "week") != 0)
		return cli_misused(cli, "--window is hour, day or week, not \"%s\"", window);
	json_t *both = json_object();
	bool any = false, reached = false;
	for (int daemon = HTTP_REPLICATOR; daemon <= HTTP_RECEIVER; daemon++) {
		int rc = cli_ask_if_there(cli, daemon, true, &history, "/v1/protections/%s/history?window=%s", cli->argv[0], window);
		if (rc) {
			json_decref(both);
			return rc;
		}
		if (history && cli->json)
			(void)json_object_set(both, daemon == HTTP_REPLICATOR ? "replicator" : "receiver", history);
		else if (history)
			print_history(history, daemon);
		any |= history != NULL;
		json_decref(history);
		struct err probe = {0};
		char path[256];
		reached |= http_socket_path(cli->run_dir, daemon, path, sizeof(path), &probe) == 0 && http_probe(path, &probe) == 0;
	}
	if (any && cli->json)
		return cli_print_json(both);
	json_decref(both);
	if (any)
		return CLI_DONE;
	if (!reached)
		return cli_no_daemon(cli);
	return cli_fail(cli, CLI_REFUSED, "no protection is named \"%s\" here: \"kagami status\" lists them", cli->argv[0]);
}
