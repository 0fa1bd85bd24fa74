// SPDX-License-Identifier: Apache-2.0
// kagami: the command line of both daemons. A table of commands, the options they take, and the way to one of them.
//
// The program asks a daemon and prints the answer; it decides nothing and keeps nothing. Manual: docs/man/kagami.1.
#include "base/size.h"
#include "base/standard.h"
#include "base/wrap.h"
#include "tools/arguments.h"
#include "tools/cli.h"
#include "tools/output.h"

#include <assert.h>
#include <curl/curl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define FOR_ALL (OPT_BIT(OPT_HELP) | OPT_BIT(OPT_JSON) | OPT_BIT(OPT_RUN_DIR))
#define OF_A_PROTECTION (OPT_BIT(OPT_BANDWIDTH) | OPT_BIT(OPT_OFFPEAK) | OPT_BIT(OPT_PRIORITY) | OPT_BIT(OPT_OBJECTIVE))
#define SOURCE "source"
#define TARGET "target"
#define EITHER "source or target"

const struct cli_command cli_commands[] = {
	{"pair-token", "[--address HOST:PORT]", "make a token that lets one source in",
	 "Prints a token that is good for one pairing within ten minutes. --address is\n"
	 "how sources reach this receiver, when that is not the address it listens on.",
	 TARGET, 0, 0, OPT_BIT(OPT_ADDRESS), cli_pair_token},
	{"pair", "SITE TOKEN [--address HOST:PORT] [--replace]", "use a token: the receiver becomes the site SITE",
	 "TOKEN is what \"kagami pair-token\" printed on the target host; \"-\" reads it\n"
	 "from standard input. --address overrides the address within the token. A name that\n"
	 "another receiver has is refused; --replace takes it from one that is lost or has\n"
	 "new keys: what is protected to SITE is copied to the new one then, all of it.",
	 SOURCE, 2, 2, OPT_BIT(OPT_ADDRESS) | OPT_BIT(OPT_REPLACE), cli_pair},
	{"sites", "", "list the receivers that this host is paired with", "", SOURCE, 0, 0, 0, cli_sites},
	{"peers", "", "list the sources that are paired with this host", "", TARGET, 0, 0, 0, cli_peers},
	{"unpair", "PEER [--yes]", "shut a source out",
	 "PEER is the name of a source or the beginning of its key (\"kagami peers\"). Its\n"
	 "sessions end at once, and it is let in again by a new pairing only. Its replicas\n"
	 "and their points stay. Tokens that were made before are void. Asks first on a\n"
	 "terminal, unless --yes is given; without one, --yes is needed.",
	 TARGET, 1, 1, OPT_BIT(OPT_YES), cli_unpair},
	{"protect", "NAME DISK=PATH ... --to SITE --rpo TIME [--points N] [--codec CODEC] [--digest DIGEST] [--read-only DISK,...] [--seed] [--force] [--bandwidth RULE] [--offpeak WINDOW] [--priority low|normal|high] [--objective PART]", "replicate a VM's disks to a site",
	 "Serves each raw image PATH over NBD under the name DISK, and keeps recovery\n"
	 "points of all of them together at SITE, the newest never older than TIME (15s,\n"
	 "5m, 1h; from 1s to 24h). At most N points are kept, from 1 to 200, by default\n"
	 "24. CODEC is zstd (the default), auto (zstd at a level that follows what is\n"
	 "measured), zlib, lz4 or none. DIGEST is xxh3 (the default) or blake2b, for guests\n"
	 "that are not trusted with a chance at a collision; it stays. Disks named by\n"
	 "--read-only are replicated like the others, and the VM can only read them. With --seed\n"
	 "nothing is copied before the target has a seed of each disk (\"kagami seed\" there):\n"
	 "until then the state is waiting-for-seed, and the disks are served and tracked.\n"
	 "--force takes an image for raw that begins as one of another format does.\n"
	 "The rest is what \"kagami set\" can change later.",
	 SOURCE, 1, INT_MAX, // how many disks may be is its own to say
	 OPT_BIT(OPT_TO) | OPT_BIT(OPT_RPO) | OPT_BIT(OPT_POINTS) | OPT_BIT(OPT_CODEC) | OPT_BIT(OPT_DIGEST) | OPT_BIT(OPT_READ_ONLY) | OPT_BIT(OPT_SEED) | OPT_BIT(OPT_FORCE) | OF_A_PROTECTION, cli_protect},
	{"set", "[NAME] [--rpo TIME] [--bandwidth RULE] [--offpeak WINDOW] [--priority low|normal|high] [--objective PART] [--cycles N] [--syncs N]", "change the objective and the limits of a protection, or of all together",
	 "Without NAME it is about all protections together: --bandwidth, --cycles and\n"
	 "--syncs at once (or default); without an option it shows them. RULE is [WINDOW]\n"
	 "RATE, such as 50mbit, 4mbyte or \"mon-fri 08:00-18:00 20mbit\"; it may be given\n"
	 "several times, the first whose WINDOW holds counts, none takes all away. WINDOW is\n"
	 "in local time (22:00-06:00, sat,sun); --offpeak keeps the initial sync to it, none\n"
	 "to any time. PART of the time is to be within the RPO: 99.9%.",
	 SOURCE, 0, 1, OPT_BIT(OPT_RPO) | OPT_BIT(OPT_CYCLES) | OPT_BIT(OPT_SYNCS) | OF_A_PROTECTION, cli_set},
	{"status", "[NAME] [--check [--warning PERCENT] [--critical PERCENT]]", "show protections and replicas, or one of them in full",
	 "With --check, prints one line as a monitoring plugin does (Nagios, Icinga) and\n"
	 "exits with 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN. A point older than the RPO is\n"
	 "critical; a warning is a next point that is known to come too late, an error\n"
	 "budget that is overdrawn, and whatever else is wrong with a protection. --warning\n"
	 "and --critical set the age in percent of the RPO (a healthy one comes near 100\n"
	 "before each cut). A daemon that died or hangs is critical.",
	 EITHER, 0, 1, OPT_BIT(OPT_CHECK) | OPT_BIT(OPT_WARNING) | OPT_BIT(OPT_CRITICAL), cli_status},
	{"watch", "[NAME]", "show what \"kagami status\" does, live in the terminal",
	 "Those that are not well come first (s: by name), with their reasons, progress of\n"
	 "syncs and scrubs, and the newest events. Up, down, page up, page down (or k, j,\n"
	 "b, space) scroll; q ends it.",
	 EITHER, 0, 1, 0, cli_watch},
	{"events", "[NAME] [--class CLASS] [--follow] [--all]", "list what happened",
	 "The newest 100, or with --all whatever is kept; of one protection, or of one CLASS\n"
	 "(\"man kagami\" lists them). --follow goes on with what happens. With --json, one\n"
	 "event a line.",
	 EITHER, 0, 1, OPT_BIT(OPT_FOLLOW) | OPT_BIT(OPT_CLASS) | OPT_BIT(OPT_ALL), cli_events},
	{"history", "NAME [--window hour|day|week]", "plot the age of the newest point against the RPO",
	 "Over the last day, unless another window is named: how old the newest point was,\n"
	 "when the RPO was missed and why, and what is left of the error budget.",
	 EITHER, 1, 1, OPT_BIT(OPT_WINDOW), cli_history},
	{"cycle", "NAME [--compare] [--wait [--timeout TIME]]", "make a recovery point now",
	 "With --wait, returns when a point that holds everything written before is\n"
	 "committed, or after TIME (10m) with exit status 4; with --json as well, it\n"
	 "prints that cycle. --compare reads the disks as a whole and compares them with\n"
	 "the replica by digests, whatever is known to have changed.",
	 SOURCE, 1, 1, OPT_BIT(OPT_COMPARE) | OPT_BIT(OPT_WAIT) | OPT_BIT(OPT_TIMEOUT), cli_cycle},
	{"resize", "NAME DISK --size SIZE [--dry-run]", "make a disk larger while the VM runs",
	 "SIZE is in bytes, or with K, M, G or T (20G); a disk cannot become smaller. The\n"
	 "image is extended where it is a file; a device is made larger first. All points\n"
	 "stay, each with the size that the disk had. The VM sees the new size once it\n"
	 "connects again. --dry-run says what would happen and does nothing.",
	 SOURCE, 2, 2, OPT_BIT(OPT_SIZE) | OPT_BIT(OPT_DRY_RUN), cli_resize},
	{"clear-error", "NAME DISK [--dry-run]", "promise flushes of a disk again that had failed",
	 "A write or a sync of its image failed, and what its guest had written may be lost.\n"
	 "Shut the guest down, repair the storage, then give this: what the image may have\n"
	 "lost is sent anew. Start the guest afterwards. It is refused while anybody is\n"
	 "connected to the disk, and while the image cannot be synced. --dry-run says what\n"
	 "would happen and does nothing.",
	 SOURCE, 2, 2, OPT_BIT(OPT_DRY_RUN), cli_clear_error},
	{"syncs", "NAME", "list the syncs of a protection: why, how long, what was compared and sent",
	 "The newest 100, newest first. A sync compares digests instead of relying on the\n"
	 "record of what changed: at first, after a crash (then only of what was marked),\n"
	 "or for a reason that the list names.",
	 SOURCE, 1, 1, 0, cli_syncs},
	{"pause", "NAME", "stop making points; writes are still tracked", "", SOURCE, 1, 1, 0, cli_pause},
	{"resume", "NAME [--without-seed]", "go on making points",
	 "--without-seed: a protection that waits for its seed waits no more, and copies\n"
	 "its disks as a whole.",
	 SOURCE, 1, 1, OPT_BIT(OPT_WITHOUT_SEED), cli_resume},
	{"unprotect", "NAME [--yes]", "end a protection; its points stay at the target",
	 "Asks first on a terminal, unless --yes is given; without one it does not ask.", SOURCE, 1, 1, OPT_BIT(OPT_YES), cli_unprotect},
	{"points", "NAME[@POINT]", "list recovery points, or show one with its files", "", TARGET, 1, 1, 0, cli_points},
	{"retention", "NAME [--points N] [--keep TIERS] [--floor TIME] [--source] [--dry-run]", "show or set which points are kept",
	 "Keeps the newest N points; by each of the TIERS, INTERVAL:COUNT as in\n"
	 "15m:24,1h:24,1d:14,1w:8 (\"none\" for none), the newest point of each of the last\n"
	 "COUNT intervals that have one; and whatever the source does one of each of the\n"
	 "last hours of the floor (24h at first, \"none\" for none). What is not said stays as\n"
	 "it was. The receiver's policy counts from then on, until --source takes the\n"
	 "source's wish again. --dry-run says what would go and changes nothing.",
	 TARGET, 1, 1, OPT_BIT(OPT_POINTS) | OPT_BIT(OPT_KEEP) | OPT_BIT(OPT_FLOOR) | OPT_BIT(OPT_SOURCE) | OPT_BIT(OPT_DRY_RUN),
	 cli_retention},
	{"plan", "NAME --rpo TIME,...\nretention NAME [--points N] [--keep TIERS] [--floor TIME] [--source]", "say what another RPO would cost, or another retention would keep",
	 "With --rpo, on the source: for each of the times, from what the guest wrote so far,\n"
	 "whether the present line keeps it, how much a delta has, the rate that it needs, the\n"
	 "bytes on the wire in a day, what the points take at the target and what a crash costs.\n"
	 "With retention, on the target: as \"kagami retention --dry-run\".", EITHER, 1, 2,
	 OPT_BIT(OPT_POINTS) | OPT_BIT(OPT_KEEP) | OPT_BIT(OPT_FLOOR) | OPT_BIT(OPT_SOURCE) | OPT_BIT(OPT_RPO), cli_plan},
	{"pin", "NAME@POINT [TEXT]", "keep a point until it is unpinned", "TEXT says why, in \"kagami points\".", TARGET, 1, 2, 0, cli_pin},
	{"unpin", "NAME@POINT\nNAME --lost", "leave a point to the retention again",
	 "With --lost: leave to it all that is kept only because it is not known any more\n"
	 "which points were pinned (\"kagami status\" says so). What is pinned stays.",
	 TARGET, 1, 1, OPT_BIT(OPT_LOST), cli_unpin},
	{"failover", "NAME[@POINT] [--rollback-after TIME | --rollback [--discard-failover] | --commit] [--dry-run] [--yes] [--verify] [--damaged]",
	 "make a replica usable: writable disks on a point",
	 "Takes the newest point unless one is named. Ends replication into the replica,\n"
	 "and prints the disks and a command that boots them. --dry-run says what would\n"
	 "happen and does nothing. On a terminal it asks first, unless --yes is given.\n"
	 "--rollback takes a failover back: what was written to its disks is thrown away,\n"
	 "and the source may replicate again. It is refused while a VM has a disk open;\n"
	 "without a terminal it needs --yes. --rollback-after does so by itself after TIME\n"
	 "(30m, 1h), never while a VM has a disk open nor within five minutes after, and\n"
	 "unless it is committed. --commit makes a failover final. Where the record of a\n"
	 "failover is damaged, --discard-failover says that its disks may go even so.\n"
	 "Every block is proven beside the use of the disks, and the command says so or\n"
	 "warns; --verify proves all of them first, and fails over to a sound point only.\n"
	 "A point in quarantine is refused, unless --damaged is given.",
	 TARGET, 1, 1,
	 OPT_BIT(OPT_DRY_RUN) | OPT_BIT(OPT_YES) | OPT_BIT(OPT_ROLLBACK) | OPT_BIT(OPT_COMMIT) | OPT_BIT(OPT_ROLLBACK_AFTER) |
		 OPT_BIT(OPT_DISCARD) | OPT_BIT(OPT_DAMAGED) | OPT_BIT(OPT_VERIFY), cli_failover},
	{"mount", "NAME[@POINT] DIR [--disk DISK] [--partition N] [--verify] [--damaged]", "mount a file system of a point, read-only",
	 "Takes the first disk, unless --disk names another; and of a disk with partitions\n"
	 "the one that has a file system: --partition is needed when several have one.\n"
	 "Every block of the point is proven beside its use; --verify proves them first, and\n"
	 "mounts a sound point only.\n"
	 "A point in quarantine is refused, unless --damaged is given.",
	 TARGET, 2, 2, OPT_BIT(OPT_DISK) | OPT_BIT(OPT_PARTITION) | OPT_BIT(OPT_DAMAGED) | OPT_BIT(OPT_VERIFY), cli_mount},
	{"umount", "DIR", "unmount a point that was mounted", "", TARGET, 1, 1, 0, cli_umount},
	{"mounts", "", "list mounted points", "", TARGET, 0, 0, 0, cli_mounts},
	{"limit", "NAME --quota SIZE|none", "bound what a replica may take on disk",
	 "SIZE is in bytes, or with K, M, G or T (200G). When base, points and the point\n"
	 "that is under way would take more, the new point is refused, the old ones stay,\n"
	 "and the source says \"quota-reached\"; it goes on by itself when there is room.\n"
	 "The store as a whole keeps what kagami-receiver's --reserve says free.",
	 TARGET, 1, 1, OPT_BIT(OPT_QUOTA), cli_limit},
	{"test", "start NAME[@POINT] [--name TEST] [--verify] [--damaged]\nlist [NAME]\nstop NAME [TEST] [--force]", "try a point: writable disks to be thrown away",
	 "start makes a writable overlay on each disk of the newest point, or of POINT,\n"
	 "beside the replication, which goes on, and prints the disks and a command that\n"
	 "boots them without a network. The point is held until the test is stopped, also\n"
	 "through restarts. stop throws away what was written; while a VM has a disk open\n"
	 "it refuses, unless --force is given. Every block of the point is proven beside the\n"
	 "test; --verify proves them first, and starts on a sound point only. A point in\n"
	 "quarantine is refused, unless --damaged is given.",
	 TARGET, 1, 3, OPT_BIT(OPT_VERIFY) | OPT_BIT(OPT_NAME) | OPT_BIT(OPT_FORCE) | OPT_BIT(OPT_DAMAGED), cli_test},
	{"export", "NAME[@POINT] OUT [--disk DISK] [--format raw|qcow2] [--force] [--damaged]", "write a disk of a point to a file",
	 "The disk as it was at the cut, in one file that stands on nothing else: raw (the\n"
	 "default), sparse, or qcow2. Each block is proven before it is written. The file\n"
	 "is OUT.part until it is whole; interrupted, the command leaves nothing. --disk is\n"
	 "needed where the protection has several disks. --force replaces a file OUT.\n"
	 "A block that is damaged ends the export with its number, unless --damaged is\n"
	 "given: then what is there of it is written, and the exit status is 1.",
	 TARGET, 2, 2, OPT_BIT(OPT_DAMAGED) | OPT_BIT(OPT_DISK) | OPT_BIT(OPT_FORMAT) | OPT_BIT(OPT_FORCE), cli_export},
	{"files", "NAME[@POINT] ls [PATH] [--disk DISK] [--partition N] [--damaged]\nNAME[@POINT] get PATH [OUT] [--disk DISK] [--partition N] [--damaged] [--force]", "list or fetch single files of a point",
	 "ls lists a directory of the file system of a point; get copies one file to OUT,\n"
	 "by default under its own name here, or to standard output for \"-\". The copy is\n"
	 "the caller's, mode 0600, whatever it was in the guest. --force replaces OUT.\n"
	 "--disk, --partition and --damaged are as for mount.",
	 TARGET, 2, 4, OPT_BIT(OPT_DISK) | OPT_BIT(OPT_PARTITION) | OPT_BIT(OPT_FORCE) | OPT_BIT(OPT_DAMAGED), cli_files},
	{"forget", "NAME [--yes] [--discard-failover]", "remove a replica and all of its points",
	 "Asks first on a terminal, unless --yes is given; without one, --yes is needed.\n"
	 "After a failover, what the VM wrote since is in the failover's disks alone:\n"
	 "--discard-failover says that they may go too.",
	 TARGET, 1, 1, OPT_BIT(OPT_YES) | OPT_BIT(OPT_DISCARD), cli_forget},
	{"scrub", "NAME[@POINT] [--rate SIZE] [--wait] [--stop]\n--all [--rate SIZE] [--wait] [--stop]", "prove the blocks of a replica against their digests",
	 "Reads every block of every point, or of the one that is named, at SIZE bytes a\n"
	 "second (32M, unless the receiver was started with another rate), beside everything\n"
	 "else. A point that shows a damaged block goes into quarantine. The receiver does\n"
	 "this by itself every week. --stop ends a scrub before its end. With --wait, returns\n"
	 "when it is over, with exit status 1 when there is damage.",
	 TARGET, 0, 1, OPT_BIT(OPT_RATE) | OPT_BIT(OPT_WAIT) | OPT_BIT(OPT_STOP) | OPT_BIT(OPT_ALL), cli_scrub},
	{"seed", "NAME/DISK FILE --format raw|qcow2 [--move | --reflink] [--peer PEER] [--wait] [--dry-run]\nlist\ndrop NAME/DISK", "use an older copy of a disk as the base of a new replica",
	 "Before \"kagami protect\" makes the first copy of NAME: copies FILE into the store;\n"
	 "the first sync then sends only what differs. FILE may be older, larger, smaller or\n"
	 "wrong: that costs time, and nothing else. --move takes the file itself, which must be\n"
	 "on the store's file system, and nobody may write it any more; --reflink shares its\n"
	 "blocks, where the file system can. PEER is the source that it is for, by name or\n"
	 "fingerprint (\"kagami peers\"), needed where several are paired, or \"any\". Returns at\n"
	 "once, or with --wait when the seed is there. list shows seeds, drop removes one.\n"
	 "--dry-run looks at FILE, says what would happen and does nothing.",
	 TARGET, 1, 2,
	 OPT_BIT(OPT_FORMAT) | OPT_BIT(OPT_MOVE) | OPT_BIT(OPT_REFLINK) | OPT_BIT(OPT_PEER) | OPT_BIT(OPT_WAIT) | OPT_BIT(OPT_DRY_RUN), cli_seed},
	{"store", "check [STORE]", "check the files of the store: read-only",
	 "Asks the receiver to check every file of its store; or, with the path of a store\n"
	 "that no receiver has open, checks that one. Tells what is damaged, by name, and\n"
	 "what does not belong there. Exit status: 0 sound, 1 damaged, 2 misused, 3 it, or a\n"
	 "file of it, could not be read. What the blocks hold is proven by \"kagami scrub\".",
	 TARGET, 1, 2, 0, cli_store},
	{"bundle", "OUT.tar.gz [--force]", "collect what somebody who helps needs to see",
	 "What both daemons tell of themselves (states, points, history, events, metrics,\n"
	 "a check of the store), their journals, and the host, in one file of mode 0600. No\n"
	 "keys, tokens or contents of disks are in it; names of protections, paths and hosts\n"
	 "are. --force replaces a file OUT.tar.gz.",
	 EITHER, 1, 1, OPT_BIT(OPT_FORCE), cli_bundle},
	{"version", "", "show the versions of this program and of the daemons here", "", EITHER, 0, 0, 0, cli_version},
	{"help", "[COMMAND]", "show this list, or a command", "", EITHER, 0, 1, 0, cli_help},
	{.name = NULL},
};

static const struct option options[] = {
	{"help", no_argument, NULL, OPT_HELP},		     {"version", no_argument, NULL, OPT_VERSION},
	{"json", no_argument, NULL, OPT_JSON},		     {"run-dir", required_argument, NULL, OPT_RUN_DIR},
	{"yes", no_argument, NULL, OPT_YES},		     {"to", required_argument, NULL, OPT_TO},
	{"rpo", required_argument, NULL, OPT_RPO},	     {"points", required_argument, NULL, OPT_POINTS},
	{"digest", required_argument, NULL, OPT_DIGEST},
	{"codec", required_argument, NULL, OPT_CODEC},	     {"address", required_argument, NULL, OPT_ADDRESS},
	{"compare", no_argument, NULL, OPT_COMPARE},
	{"wait", no_argument, NULL, OPT_WAIT},		     {"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"size", required_argument, NULL, OPT_SIZE},
	{"all", no_argument, NULL, OPT_ALL},		     {"stop", no_argument, NULL, OPT_STOP},
	{"rate", required_argument, NULL, OPT_RATE},	     {"damaged", no_argument, NULL, OPT_DAMAGED},
	{"name", required_argument, NULL, OPT_NAME},	     {"force", no_argument, NULL, OPT_FORCE},
	{"format", required_argument, NULL, OPT_FORMAT},
	{"dry-run", no_argument, NULL, OPT_DRY_RUN},	     {"partition", required_argument, NULL, OPT_PARTITION},
	{"disk", required_argument, NULL, OPT_DISK},	     {"discard-failover", no_argument, NULL, OPT_DISCARD},
	{"read-only", required_argument, NULL, OPT_READ_ONLY}, {"quota", required_argument, NULL, OPT_QUOTA},
	{"rollback", no_argument, NULL, OPT_ROLLBACK},	     {"commit", no_argument, NULL, OPT_COMMIT},
	{"rollback-after", required_argument, NULL, OPT_ROLLBACK_AFTER}, {"keep", required_argument, NULL, OPT_KEEP},
	{"floor", required_argument, NULL, OPT_FLOOR},	     {"source", no_argument, NULL, OPT_SOURCE},
	{"move", no_argument, NULL, OPT_MOVE},		     {"reflink", no_argument, NULL, OPT_REFLINK},
	{"peer", required_argument, NULL, OPT_PEER},
	{"verify", no_argument, NULL, OPT_VERIFY},	     {"bandwidth", required_argument, NULL, OPT_BANDWIDTH},
	{"offpeak", required_argument, NULL, OPT_OFFPEAK},   {"priority", required_argument, NULL, OPT_PRIORITY},
	{"objective", required_argument, NULL, OPT_OBJECTIVE}, {"cycles", required_argument, NULL, OPT_CYCLES},
	{"syncs", required_argument, NULL, OPT_SYNCS},
	{"check", no_argument, NULL, OPT_CHECK},	     {"warning", required_argument, NULL, OPT_WARNING},
	{"critical", required_argument, NULL, OPT_CRITICAL}, {"follow", no_argument, NULL, OPT_FOLLOW},
	{"class", required_argument, NULL, OPT_CLASS},	     {"window", required_argument, NULL, OPT_WINDOW},
	{"seed", no_argument, NULL, OPT_SEED},		     {"without-seed", no_argument, NULL, OPT_WITHOUT_SEED},
	{"lost", no_argument, NULL, OPT_LOST},		     {"replace", no_argument, NULL, OPT_REPLACE},
	{NULL, 0, NULL, 0},
};

static const struct cli_command *command_find(const char *name)
{
	for (const struct cli_command *command = cli_commands; command->name; command++)
		if (strcmp(command->name, name) == 0)
			return command;
	return NULL;
}

enum { NAMES = 14 }; // columns of the list that the names have
enum { COMPLAINT_SIZE = 160 };

static void print_commands(const char *title, const char *host)
{
	(void)printf("\n%s\n", title);
	for (const struct cli_command *command = cli_commands; command->name; command++)
		if (strcmp(command->host, host) == 0) {
			(void)printf("  %-11s ", command->name);
			wrap_print(stdout, NAMES, NAMES, command->summary);
		}
}

static int print_help(const struct cli_command *command)
{
	if (command) {
		char name[64], about[256];
		(void)snprintf(name, sizeof(name), "kagami %s", command->name);
		(void)snprintf(about, sizeof(about), "On the %s host: %s.", command->host, command->summary);
		wrap_usage(stdout, name, command->usage);
		(void)putchar('\n');
		wrap_print(stdout, 0, 0, about);
		if (command->help[0]) {
			(void)putchar('\n');
			wrap_print(stdout, 0, 0, command->help);
		}
	} else {
		(void)printf("usage: kagami [--run-dir DIR] [--json] COMMAND ...\n");
		print_commands("On the source host, where kagami-replicator runs:", SOURCE);
		print_commands("On the target host, where kagami-receiver runs:", TARGET);
		print_commands("On both:", EITHER);
		(void)printf("\n\"kagami help COMMAND\" tells more, and so does \"man kagami\".\n");
	}
	(void)printf("\n--json prints the daemon's answer, or the error. --run-dir (or KAGAMI_RUN_DIR)\n"
		     "is where its socket is, %s by default. Exit status: 0 done, 1 refused,\n"
		     "2 misused, 3 no daemon, 4 timed out.\n",
		     CLI_RUN_DIR);
	return CLI_DONE;
}

int cli_help(const struct cli *cli)
{
	const struct cli_command *command = cli->argc ? command_find(cli->argv[0]) : NULL;
	if (cli->argc && !command)
		return cli_misused(cli, "there is no command \"%s\"", cli->argv[0]);
	return print_help(command);
}

static const char *option_name(int option)
{
	const struct option *at = options;
	while (at->val != option)
		at++;
	return at->name;
}

// Behind those before it, with a ";" between.
static int rules_join(struct cli *cli, const char *more)
{
	static char rules[2048];
	char before[sizeof(rules)];
	assert(cli->option[OPT_BANDWIDTH] && more);
	if (strlen(cli->option[OPT_BANDWIDTH]) + strlen(more) + 2 > sizeof(rules))
		return -1;
	(void)snprintf(before, sizeof(before), "%s", cli->option[OPT_BANDWIDTH]);
	(void)snprintf(rules, sizeof(rules), "%.1000s;%.1000s", before, more);
	cli->option[OPT_BANDWIDTH] = rules;
	return 0;
}

// The first one counts.
static void complain(char *complaint, const char *what, const char *is_wrong)
{
	if (!complaint[0])
		(void)snprintf(complaint, COMPLAINT_SIZE, "%.80s %s", what, is_wrong);
}

static void complain_twice(char *complaint, int option)
{
	char name[32];
	(void)snprintf(name, sizeof(name), "--%s", option_name(option));
	complain(complaint, name, option == OPT_KEEP ? "is given twice: its tiers stand behind one, as in --keep 15m:24,1h:24" : "is given twice");
}

// What is wrong is said once it is known which command it is of.
static int options_read(struct cli *cli, int argc, char **argv)
{
	char complaint[COMPLAINT_SIZE] = "";
	int found;
	opterr = 0;
	while ((found = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (found == 'h')
			found = OPT_HELP;
		if (found == '?')
			complain(complaint, argv[optind - 1], "is no option");
		else if (found == ':')
			complain(complaint, argv[optind - 1], "needs a value");
		else if (found == OPT_BANDWIDTH && cli->option[found]) { // several rules, in order
			if (rules_join(cli, optarg))
				complain(complaint, "--bandwidth", "is too long");
		} else if (optarg && cli->option[found])
			complain_twice(complaint, found);
		else
			cli->option[found] = optarg ? optarg : "";
	}
	cli->argc = argc - optind;
	cli->argv = argv + optind;
	if (!complaint[0])
		return CLI_DONE;
	cli->command = cli->argc ? command_find(cli->argv[0]) : NULL;
	return cli_misused(cli, "%s", complaint);
}

static int missing(const struct cli *cli)
{
	char name[64];
	arguments_name(cli->command, cli->argc, name, sizeof(name));
	if (name[0])
		return cli_misused(cli, "%s is missing", name);
	return cli_misused(cli, cli->argc ? "something is missing behind \"%s\"" : "it needs to be told what", cli->argc ? cli->argv[cli->argc - 1] : "");
}

// Whether the command takes what it was given.
static int command_check(const struct cli *cli)
{
	const struct cli_command *command = cli->command;
	struct err err = {0};
	for (int i = 0; i < OPT_COUNT; i++)
		if (cli->option[i] && !((command->options | FOR_ALL) & OPT_BIT(i)))
			return cli_misused(cli, "it takes no --%s", option_name(i));
	for (const struct option *at = options; at->name; at++)
		if (at->has_arg && cli->option[at->val] && arguments_check_option(at->name, cli->option[at->val], at->val == OPT_RUN_DIR, &err))
			return cli_misused(cli, "%s", err.text);
	if (cli->argc < command->args_least)
		return missing(cli);
	if (cli->argc > command->args_most)
		return cli_misused(cli, "\"%s\" is too much", cli->argv[command->args_most]);
	return arguments_check(cli, &err) ? cli_misused(cli, "%s", err.text) : CLI_DONE;
}

static const char *run_dir_get(const struct cli *cli)
{
	const char *env = getenv("KAGAMI_RUN_DIR");
	if (cli->option[OPT_RUN_DIR])
		return cli->option[OPT_RUN_DIR];
	return env && env[0] ? env : CLI_RUN_DIR;
}

static int command_run(struct cli *cli)
{
	if (cli->argc == 0 && cli->option[OPT_VERSION])
		return printf("kagami %s\n", KAGAMI_VERSION), CLI_DONE;
	if (cli->argc == 0 && cli->option[OPT_HELP])
		return print_help(NULL);
	if (cli->argc == 0)
		return cli_misused(cli, "no command was given");
	const char *name = cli->argv[0];
	cli->command = command_find(name);
	if (!cli->command)
		return cli_misused(cli, "there is no command \"%s\"", name);
	if (cli->option[OPT_HELP])
		return print_help(cli->command);
	cli->argc--;
	cli->argv++;
	int rc = command_check(cli);
	return rc ? rc : cli->command->run(cli);
}

// What was not written is no success, and not what another exit status says: damage, or a state that a monitor knows.
static int output_end(const struct cli *cli, int rc)
{
	bool check = cli_is_check(cli);
	bool store = cli->command && strcmp(cli->command->name, "store") == 0;
	if (!output_lost(stdout) || (rc != CLI_DONE && !check))
		return rc;
	return cli_fail(cli, check || store ? CLI_UNREACHABLE : CLI_REFUSED, "writing the output failed");
}

int main(int argc, char **argv)
{
	standard_descriptors();
	struct cli cli = {.json = false};
	output_guard();
	int rc = options_read(&cli, argc, argv);
	cli.json = cli.option[OPT_JSON];
	cli.run_dir = run_dir_get(&cli);
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	if (rc == CLI_DONE)
		rc = command_run(&cli);
	curl_global_cleanup();
	cli_print_json_error(&cli, rc);
	return output_end(&cli, rc);
}
