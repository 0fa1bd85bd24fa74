// SPDX-License-Identifier: Apache-2.0
// Pairing and what came of it: pair-token, pair, sites, peers, unpair.
#include "tools/cli.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/show.h"

#include <string.h>

enum { TOKEN_SIZE = 512, KEY_LETTERS_MIN = 8 };

// Half of a SHA-256 is as much as a line has room for; --json has all of it.
#define FINGERPRINT "%.32s"

// The token alone goes to standard output, so that a script can take it as it is.
int cli_pair_token(const struct cli *cli)
{
	const char *address = cli->option[OPT_ADDRESS];
	json_t *answer;
	struct err err;
	if (address && parse_address(address, &err))
		return cli_misused(cli, "--address: %s", err.text);
	json_t *body = address ? json_pack("{s:s}", "address", address) : json_object();
	int rc = cli_ask(cli, HTTP_RECEIVER, "POST", body, &answer, "/v1/pair-tokens");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("%s\n", show_text_of(answer, "token"));
	if (output_lost(stdout)) {
		json_decref(answer);
		return cli_fail(cli, CLI_REFUSED, "the token could not be written, and nobody has it: ask for another one");
	}
	(void)fprintf(stderr, "Good for one pairing, until %s. On the source host: kagami pair SITE TOKEN\n",
		      show_time_of(answer, "expires").text);
	json_decref(answer);
	return CLI_DONE;
}

// The token as it was given, or from standard input for "-", which keeps it out of the list of processes.
static int token_get(const struct cli *cli, char token[TOKEN_SIZE])
{
	const char *given = cli->argv[1];
	if (strcmp(given, "-") == 0) {
		if (!fgets(token, TOKEN_SIZE, stdin))
			return cli_fail(cli, CLI_REFUSED, "standard input has no token");
		token[strcspn(token, "\r\n")] = '\0';
		return CLI_DONE;
	}
	if (strlen(given) >= TOKEN_SIZE)
		return cli_misused(cli, "this is too long for a token: take what \"kagami pair-token\" printed on the target host");
	(void)strcpy(token, given);
	return CLI_DONE;
}

int cli_pair(const struct cli *cli)
{
	char token[TOKEN_SIZE];
	struct err err;
	if (parse_name("site", cli->argv[0], &err))
		return cli_misused(cli, "%s", err.text);
	if (cli->option[OPT_ADDRESS] && parse_address(cli->option[OPT_ADDRESS], &err))
		return cli_misused(cli, "--address: %s", err.text);
	int rc = token_get(cli, token);
	if (rc)
		return rc;
	json_t *answer;
	json_t *body = json_pack("{s:s, s:s}", "name", cli->argv[0], "token", token);
	if (!body)
		return cli_misused(cli, "this is not a token: take what \"kagami pair-token\" printed on the target host");
	if (cli->option[OPT_ADDRESS])
		(void)json_object_set_new(body, "address", json_string(cli->option[OPT_ADDRESS]));
	if (cli->option[OPT_REPLACE])
		(void)json_object_set_new(body, "replace", json_true());
	rc = cli_ask(cli, HTTP_REPLICATOR, "POST", body, &answer, "/v1/sites");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("Paired: the receiver at %s is now the site \"%s\".\nIts key: %s\n", show_text_of(answer, "address"),
		     show_text_of(answer, "name"), show_text_of(answer, "fingerprint"));
	json_decref(answer);
	return CLI_DONE;
}

int cli_sites(const struct cli *cli)
{
	json_t *answer;
	const json_t *site;
	size_t i;
	int rc = cli_ask(cli, HTTP_REPLICATOR, "GET", NULL, &answer, "/v1/sites");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	if (json_array_size(json_object_get(answer, "sites")) == 0)
		(void)printf("No sites. Get a token on the target host (kagami pair-token), then: kagami pair SITE TOKEN\n");
	else {
		struct table *table = table_new("lll");
		table_add(table, "SITE\tADDRESS\tKEY");
		json_array_foreach(json_object_get(answer, "sites"), i, site)
			table_add(table, "%s\t%s\t" FINGERPRINT, show_text_of(site, "name"), show_text_of(site, "address"),
				  show_text_of(site, "fingerprint"));
		table_print(table, stdout);
	}
	json_decref(answer);
	return CLI_DONE;
}

int cli_peers(const struct cli *cli)
{
	json_t *answer;
	const json_t *peer;
	size_t i;
	int rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &answer, "/v1/peers");
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	if (json_array_size(json_object_get(answer, "peers")) == 0)
		(void)printf("No peers. Make a token here (kagami pair-token), and use it on the source host.\n");
	else {
		struct table *table = table_new("lll");
		table_add(table, "PEER\tPAIRED\tKEY");
		json_array_foreach(json_object_get(answer, "peers"), i, peer)
			table_add(table, "%s\t%s\t" FINGERPRINT, show_text_of(peer, "name"), show_time_of(peer, "paired").text,
				  show_text_of(peer, "fingerprint"));
		table_print(table, stdout);
	}
	json_decref(answer);
	return CLI_DONE;
}

// The only peer of this name, or whose key begins so. NULL: the reason was told.
static const json_t *peer_find(const struct cli *cli, const json_t *peers, const char *wanted, int *ret_rc)
{
	const json_t *peer, *found = NULL;
	size_t i, count = 0;
	json_array_foreach(peers, i, peer) {
		const char *key = show_text_of(peer, "fingerprint");
		if (strcmp(show_text_of(peer, "name"), wanted) != 0 && (strlen(wanted) < KEY_LETTERS_MIN || strncmp(key, wanted, strlen(wanted)) != 0))
			continue;
		found = peer;
		count++;
	}
	*ret_rc = count == 1 ? CLI_DONE
		  : count   ? cli_fail(cli, CLI_REFUSED, "%zu sources are called %s: name one by its key (\"kagami peers\")", count, wanted)
			    : cli_fail(cli, CLI_REFUSED, "no source %s is paired with this host; \"kagami peers\" lists them", wanted);
	return count == 1 ? found : NULL;
}

static int unpair(const struct cli *cli, const json_t *peer)
{
	json_t *answer;
	if (!cli_confirmed(cli, "Shut out the source %s (key " FINGERPRINT ")? It sends no more points; those that are there stay.", show_text_of(peer, "name"),
			   show_text_of(peer, "fingerprint")))
		return CLI_REFUSED;
	int rc = cli_ask(cli, HTTP_RECEIVER, "DELETE", NULL, &answer, "/v1/peers/%s", show_text_of(peer, "fingerprint"));
	if (rc)
		return rc;
	if (cli->json)
		return cli_print_json(answer);
	(void)printf("The source %s is shut out. Its replicas here (%s) stay until \"kagami forget\".\n", show_text_of(answer, "name"),
		     show_integer_of(answer, "protections").text);
	if (json_integer_value(json_object_get(answer, "sessions_left")))
		(void)printf("%s of its sessions end as soon as the store's disk answers.\n", show_integer_of(answer, "sessions_left").text);
	json_decref(answer);
	return CLI_DONE;
}

int cli_unpair(const struct cli *cli)
{
	json_t *peers;
	if (!cli->option[OPT_YES] && !cli_on_terminal())
		return cli_misused(cli, "this ends all that the source sends: say --yes to mean it");
	int rc = cli_ask(cli, HTTP_RECEIVER, "GET", NULL, &peers, "/v1/peers");
	if (rc)
		return rc;
	const json_t *peer = peer_find(cli, json_object_get(peers, "peers"), cli->argv[0], &rc);
	if (peer)
		rc = unpair(cli, peer);
	json_decref(peers);
	return rc;
}
