// SPDX-License-Identifier: Apache-2.0
#include "tools/load_options.h"

#include "base/size.h"
#include "tools/parse.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROTECTIONS_MAX = 1000, EXIT_USAGE = 2 };

static const char usage[] =
	"Usage: kagami-load --token TOKEN [--token TOKEN ...] [OPTION ...]\n"
	"Puts load on a receiver, and measures it. It makes protections NAME-1, NAME-2,\n"
	"... there, which stay: use a receiver that was started for this.\n\n"
	"  --token TOKEN      what `kagami pair-token` printed; one for each source (at\n"
	"                     most 16)\n"
	"  --protections N    connected at once (200)\n"
	"  --active N         busy at once (50)\n"
	"  --cycles N         of each session in a phase (20)\n"
	"  --blocks N         of 64 KiB that a cycle changes (16)\n"
	"  --interval TIME    from one cycle of a session to its next, at least (0ms: as\n"
	"                     fast as it goes)\n"
	"  --disk-size SIZE   of each protection's only disk (64M)\n"
	"  --points N         that retention keeps (8)\n"
	"  --name NAME        of the protections (load)\n"
	"  --pid PID          of the receiver, on this host: its memory, threads and\n"
	"                     files are shown\n"
	"  --keys DIR         where the sources' keys are made; an empty directory\n"
	"  --fair PERCENT     exit with 3 when others delayed a session for longer:\n"
	"                     either share, at the end of the figures, above PERCENT/100\n"
	"  --json             the figures as JSON\n";

static int misuse(const char *text)
{
	(void)fprintf(stderr, "kagami-load: %s (see kagami-load --help)\n", text);
	exit(EXIT_USAGE);
}

static int option_take(struct load_options *o, int option, const char *text, struct err *err)
{
	switch (option) {
	case 't':
		if (o->sources == LOAD_SOURCES_MAX)
			return err_set(err, -EINVAL, "at most %d tokens", LOAD_SOURCES_MAX);
		o->token[o->sources++] = text;
		return 0;
	case 'p':
		return parse_number("--protections", text, 1, PROTECTIONS_MAX, &o->protections, err);
	case 'a':
		return parse_number("--active", text, 2, PROTECTIONS_MAX, &o->active, err);
	case 'c':
		return parse_number("--cycles", text, 1, 100000, &o->cycles, err);
	case 'b':
		return parse_number("--blocks", text, 1, 1 << 20, &o->blocks, err);
	case 'i':
		return parse_duration(text, &o->interval_ms, err);
	case 's':
		return parse_size(text, &o->disk_size, err);
	case 'n':
		return parse_number("--points", text, 1, 4096, &o->points, err);
	case 'm':
		o->name = text;
		return strlen(text) > 48 ? err_set(err, -EINVAL, "--name: at most 48 letters") : parse_name("--name", text, err);
	case 'P':
		return parse_number("--pid", text, 1, 1 << 30, &o->pid, err);
	case 'f':
		return parse_number("--fair", text, 100, 10000, &o->fair_percent, err);
	case 'k':
		o->keys = text;
		return 0;
	default:
		return err_set(err, -EINVAL, "this option is not known, or lacks its value");
	}
}

void load_options_read(struct load_options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{"token", 1, NULL, 't'},    {"protections", 1, NULL, 'p'}, {"active", 1, NULL, 'a'}, {"cycles", 1, NULL, 'c'},
		{"blocks", 1, NULL, 'b'},   {"interval", 1, NULL, 'i'},	   {"points", 1, NULL, 'n'}, {"disk-size", 1, NULL, 's'},
		{"name", 1, NULL, 'm'},	    {"pid", 1, NULL, 'P'},	   {"keys", 1, NULL, 'k'},   {"json", 0, NULL, 'j'},
		{"help", 0, NULL, 'h'},	    {"fair", 1, NULL, 'f'},	   {NULL, 0, NULL, 0},
	};
	struct err err = {0};
	int option;
	*o = (struct load_options){.protections = 200, .active = 50, .cycles = 20, .blocks = 16, .disk_size = 64 << 20, .points = 8,
			      .name = "load"};
	opterr = 0;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 'h') {
			(void)fputs(usage, stdout);
			exit(0);
		}
		if (option == 'j')
			o->json = 1;
		else if (option_take(o, option, optarg, &err))
			(void)misuse(err.text);
	}
	if (optind < argc)
		(void)misuse("it takes options only");
	if (o->sources == 0 || !o->keys)
		(void)misuse("it needs --token and --keys");
	if (o->active > o->protections)
		(void)misuse("--active is more than --protections");
	if (o->blocks > size_blocks(o->disk_size))
		(void)misuse("--blocks is more than the disk has");
}
