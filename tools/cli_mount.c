// SPDX-License-Identifier: Apache-2.0
// A point's files without a failover: mount, umount, mounts.
#include "base/auto.h"
#include "tools/cli_verify.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PARTITION_MOST = 128 };

// The body of a mount; NULL when the command line does not make one, with *ret_rc saying how.
static json_t *mount_body(const struct cli *cli, int *ret_rc)
{
	uint64_t partition;
	struct err err;
	const char *const *option = cli->option;
	if (option[OPT_DISK] && parse_name("disk", option[OPT_DISK], &err))
		return *ret_rc = cli_misused(cli, "%s", err.text), NULL;
	if (option[OPT_PARTITION] && parse_number("--partition", option[OPT_PARTITION], 1, PARTITION_MOST, &partition, &err))
		return *ret_rc = cli_misused(cli, "%s", err.text), NULL;
	AUTO_FREE char *directory = realpath(cli->argv[1], NULL);
	struct stat st;
	if (!directory || stat(directory, &st) || !S_ISDIR(st.st_mode)) {
		*ret_rc = cli_fail(cli, CLI_REFUSED, "%s: %s: name a directory that exists (mkdir makes one)", cli->argv[1],
				   strerror(directory ? ENOTDIR : errno));
		return NULL;
	}
	json_t *body = json_pack("{s:s}", "directory", directory);
	if (!body)
		return *ret_rc = cli_misused(cli, "%s: the path is not UTF-8: choose another directory", directory), NULL;
	if (option[OPT_DISK])
		(void)json_object_set_new(body, "disk", json_string(option[OPT_DISK]));
	if (option[OPT_PARTITION])
		(void)json_object_set_new(body, "partition", json_integer((json_int_t)partition));
	if (option[OPT_DAMAGED])
		(void)json_object_set_new(body, "damaged", json_true());
	return body;
}

int cli_mount(const struct cli *cli)
{
	struct parse_target target;
	struct err err;
	int rc = CLI_DONE;
	json_t *answer;
	if (parse_target(cli->argv[0], &target, &err))
		return cli_misused(cli, "%s", err.text);
	json_t *body = mount_body(cli, &rc);
	if (!body)
		return rc;
	rc = cli_verify_first(cli, &target);
	if (rc) {
		json_decref(body);
		return rc;
	}
	if (target.point)
		(void)json_object_set_new(body, "point", json_integer((json_int_t)target.point));
	rc = cli_ask(cli, HTTP_RECEIVER, "POST", body, &answer, "/v1/protections/%s/mounts", target.name);
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("Point %s of %s, disk %s", show_integer_of(answer, "point").text, show_text_of(answer, "protection"),
		     show_text_of(answer, "disk"));
	if (show_has(answer, "partition"))
		(void)printf(", partition %s", show_integer_of(answer, "partition").text);
	AUTO_FREE char *quoted = show_quoted(show_text_of(answer, "directory"));
	(void)printf(" (%s) is at %s, read-only.\nTo end it: kagami umount %s\n", show_text_of(answer, "filesystem"),
		     show_text_of(answer, "directory"), quoted);
	(void)printf("%s\n", json_is_true(json_object_get(answer, "proven"))
				    ? "Each block is proven before it is shown; one that is damaged is an I/O error."
				    : "What is read is shown as it is stored, damaged or not.");
	cli_verify_print(cli, target.name, json_object_get(answer, "verify"), false);
	json_decref(answer);
	return CLI_DONE;
}

// The directory as the receiver knows it. A mount whose server died cannot be looked at, and is the one that most needs to
// be taken away: then only what is above it is resolved. The caller frees; NULL with errno.
static char *mounted_path(const char *given)
{
	char *path = realpath(given, NULL);
	if (path || errno == ENOENT)
		return path;
	AUTO_FREE char *above = strdup(given);
	if (!above)
		return NULL;
	for (size_t len = strlen(above); len > 1 && above[len - 1] == '/'; len--)
		above[len - 1] = '\0';
	char *slash = strrchr(above, '/');
	AUTO_FREE char *last = strdup(slash ? slash + 1 : above);
	if (slash)
		slash[slash == above] = '\0';
	AUTO_FREE char *parent = realpath(slash ? above : ".", NULL);
	if (!last || !parent || asprintf(&path, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, last) < 0)
		return NULL;
	return path;
}

int cli_umount(const struct cli *cli)
{
	AUTO_FREE char *directory = mounted_path(cli->argv[0]);
	if (!directory)
		return cli_fail(cli, CLI_REFUSED, "%s: %s: \"kagami mounts\" lists what is mounted", cli->argv[0], strerror(errno));
	json_t *answer;
	json_t *body = json_pack("{s:s}", "directory", directory);
	if (!body)
		return cli_misused(cli, "%s: the path is not UTF-8, so no point is mounted there", directory);
	int rc = cli_ask(cli, HTTP_RECEIVER, "POST", body, &answer, "/v1/umount");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("%s is unmounted.\n", directory);
	json_decref(answer);
	return CLI_DONE;
}

int cli_mounts(const struct cli *cli)
{
	json_t *answer;
	const json_t *mount;
	size_t i;
	int rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/mounts");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	if (json_array_size(json_object_get(answer, "mounts")) == 0)
		(void)printf("No point is mounted.\n");
	else {
		struct table *table = table_new("lrlrll");
		table_add(table, "PROTECTION\tPOINT\tDISK\tPARTITION\tTYPE\tDIRECTORY");
		json_array_foreach(json_object_get(answer, "mounts"), i, mount) {
			table_add(table, "%s\t%s\t%s\t%s\t%s\t%s", show_text_of(mount, "protection"),
				  show_integer_of(mount, "point").text, show_text_of(mount, "disk"),
				  show_integer_of(mount, "partition").text, show_text_of(mount, "filesystem"),
				  show_text_of(mount, "directory"));
			if (!json_is_true(json_object_get(mount, "proven")))
				table_note(table, "  . shown as it is stored, damaged or not (--damaged)");
			cli_verify_note(table, json_object_get(mount, "verify"));
		}
		table_print(table, stdout);
	}
	json_decref(answer);
	return CLI_DONE;
}
