// SPDX-License-Identifier: Apache-2.0
// Names never become paths: whatever file or directory of the store is a symbolic link, nothing behind it is read as the store's, and
// nothing is written, created or removed there. Each kind is planted in turn on a real file system, and then everything is
// tried that the receiver does.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/failover.h"
#include "receiver/replica.h"
#include "tests/lib/store_twin.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct links {
	struct store_twin twin;
	struct temp outside;
	bool inside;	 // the link stays in the store
	char aside[300]; // what was moved there is behind the link: outside of the store, or elsewhere in it
	char before[8192];
	bool failed_over;
};

enum found {
	BROKEN,
	REFUSED,
	CARED_FOR
}; // broken replica; the store does not open; the link is removed, or nothing asks for it

struct kind {
	const char *name;
	enum found found;
	bool after_failover;
};

// Everything outside: names, types, sizes, contents.
static void look(struct links *l, char text[8192])
{
	char command[600];
	(void)snprintf(command, sizeof(command),
		       "cd %s && find . -printf '%%p %%y %%s\\n' | sort && find . -type f -exec sha256sum {} + | sort",
		       l->aside);
	FILE *out = popen(command, "r");
	assert_non_null(out);
	size_t len = fread(text, 1, 8191, out);
	text[len] = 0;
	assert_int_equal(pclose(out), 0);
}

static void begin(struct links *l, bool fail_over, bool inside)
{
	struct failover_info failover;
	struct err err = {0};
	memset(l, 0, sizeof(*l));
	temp_open(&l->outside);
	store_twin_begin(&l->twin, 11);
	l->inside = inside;
	(void)snprintf(l->aside, sizeof(l->aside), "%s%s", inside ? l->twin.temp.dir : l->outside.dir,
		       inside ? "/.aside" : "");
	assert_true(!inside || mkdir(l->aside, 0700) == 0);
	l->twin.open.points_keep = 2;
	store_twin_session(&l->twin);
	for (unsigned n = 0; n < 3; n++) {
		for (unsigned i = 0; i < 6; i++)
			store_twin_random(&l->twin);
		store_twin_seal(&l->twin);
	}
	store_twin_random(&l->twin); // a head
	replica_session_end(l->twin.replica);
	if (fail_over)
		assert_int_equal(failover_run(env_posix(), l->twin.store, l->twin.replica, 2, false, NULL, &failover, &err), 0);
	store_close(l->twin.store);
	l->twin.store = NULL;
}

static void plant(struct links *l, const char *name)
{
	char at[512], to[512];
	struct stat st;
	(void)snprintf(at, sizeof(at), "%s/%s", l->twin.temp.dir, name);
	(void)snprintf(to, sizeof(to), "%s/planted", l->aside);
	if (rename(at, to)) { // nothing is there: behind the link is something that would be missed
		assert_int_equal(mkdir(to, 0700), 0);
		(void)snprintf(to, sizeof(to), "%s/planted/precious", l->aside);
		int fd = open(to, O_CREAT | O_WRONLY, 0600);
		assert_true(fd >= 0 && write(fd, "data", 4) == 4 && close(fd) == 0);
		*strrchr(to, '/') = 0;
	}
	if (l->inside) { // up to the store, and down again
		to[0] = 0;
		for (const char *c = name; *c; c++)
			if (*c == '/')
				strcat(to, "../");
		strcat(to, ".aside/planted");
	}
	assert_int_equal(symlink(to, at), 0);
	assert_int_equal(lstat(at, &st), 0);
	look(l, l->before);
}

static void try_session(struct links *l, struct replica *r)
{
	struct store_twin *t = &l->twin;
	struct err err = {0};
	if (replica_session_begin(r, &t->open, t->pin, &t->opened, &err))
		return;
	struct wire_committed committed;
	store_twin_change(t, 0, 1, MASK_FULL);
	(void)store_twin_send(t, 0, 1, MASK_FULL, CODEC_ZSTD, &err);
	struct wire_seal seal = {.predecessor = t->opened.last_point,
				 .head = t->opened.head,
				 .cut = {{42}},
				 .consistency = POINT_CRASH};
	(void)replica_seal(r, &seal, &committed, &err);
	replica_session_end(r);
}

static void try_failover(struct links *l, struct replica *r)
{
	struct failover_info failover;
	struct failover_locks locks;
	struct replica_info info;
	struct err err = {0};
	(void)failover_run(env_posix(), l->twin.store, r, 0, false, NULL, &failover, &err);
	replica_info(r, &info);
	(void)failover_load(l->twin.store, "vm1", &failover, &err);
	if (failover_lock(l->twin.store, &info, &locks, &err) == 0)
		failover_unlock(&locks);
	(void)replica_unfence(r, 0, &err);
}

static void try_all(struct links *l, struct replica *r)
{
	struct err err = {0};
	uint64_t held;
	try_session(l, r);
	(void)replica_retain(r, &err);
	(void)replica_set_quota(r, 1 << 30, &err);
	if (replica_hold(r, 0, &held, &err) == 0)
		replica_release(r, held);
	try_failover(l, r);
	(void)store_forget(l->twin.store, "vm1", &err);
}

static void check(struct links *l, const struct kind *kind)
{
	struct err err = {0};
	char after[8192];
	int rc = store_open(env_posix(), l->twin.temp.dir, &l->twin.store, &err);
	if (kind->found == REFUSED ? rc == 0 : rc != 0)
		fail_msg("%s: store_open: %s", kind->name, rc ? err.text : "it opened");
	struct replica *r = rc ? NULL : store_find(l->twin.store, "vm1");
	l->twin.replica = r;
	if (r) {
		struct replica_info info;
		replica_info(r, &info);
		if (info.broken != (kind->found == BROKEN))
			fail_msg("%s: broken %d (%s)", kind->name, info.broken, info.broken_reason);
		try_all(l, r);
	} else if (rc == 0 && kind->found == BROKEN) {
		fail_msg("%s: it is not listed", kind->name);
	}
	look(l, after);
	if (strcmp(l->before, after) != 0)
		fail_msg("%s: what is behind the link changed:\n%s\nwas:\n%s", kind->name, after, l->before);
}

static void end(struct links *l)
{
	l->twin.replica = NULL;
	store_twin_end(&l->twin);
	temp_close(&l->outside);
}

static void links_in_the_store_lead_nowhere(void **state)
{
	static const struct kind kinds[] = {
		{"lock", REFUSED, false},
		{".new", CARED_FOR, false},
		{".trash", REFUSED, false},
		{"vm1", CARED_FOR, false}, // not a protection
		{"vm1/protection.json", BROKEN, false},
		{"vm1/protection.json.new", CARED_FOR, false},
		{"vm1/base", BROKEN, false},
		{"vm1/base/vda.raw", BROKEN, false},
		{"vm1/base/vda.digests", BROKEN, false},
		{"vm1/points", BROKEN, false},
		{"vm1/points/1", BROKEN, false},
		{"vm1/points/2/vdb.qcow2", BROKEN, false},
		{"vm1/points/3/vda.digests", BROKEN, false},
		{"vm1/points/3/point.json", BROKEN, false},
		{"vm1/head", CARED_FOR, false},
		{"vm1/trash", BROKEN, false},
		{"vm1/trash/7", CARED_FOR, false},
		{"vm1/failover", CARED_FOR, false},
		{"vm1/failover.new", CARED_FOR, false},
		{"vm1/failover", CARED_FOR, true},
		{"vm1/failover/vda.qcow2", CARED_FOR, true},
		{"vm1/failover/failover.json", CARED_FOR, true},
		{"vm1/tests", CARED_FOR, false},
	};
	struct links *l = malloc(sizeof(*l));
	(void)state;
	assert_non_null(l);
	for (size_t i = 0; i < 2 * sizeof(kinds) / sizeof(kinds[0]); i++) {
		begin(l, kinds[i / 2].after_failover, i % 2);
		plant(l, kinds[i / 2].name);
		check(l, &kinds[i / 2]);
		end(l);
	}
	free(l);
}

// The store is open when the link comes.
static void links_that_come_later_lead_nowhere(void **state)
{
	static const char *const names[] = {"vm1/head",
					    "vm1/points",
					    "vm1/points/1",
					    "vm1/points/2/vda.qcow2",
					    "vm1/base",
					    "vm1/base/vda.raw",
					    "vm1/trash",
					    "vm1/failover.new",
					    "vm1/protection.json",
					    "vm1",
					    ".new",
					    ".trash"};
	struct links *l = malloc(sizeof(*l));
	struct err err = {0};
	char after[8192];
	(void)state;
	assert_non_null(l);
	for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
		begin(l, false, i % 2);
		assert_int_equal(store_open(env_posix(), l->twin.temp.dir, &l->twin.store, &err), 0);
		l->twin.replica = store_find(l->twin.store, "vm1");
		struct wire_open other = l->twin.open;
		struct replica *created;
		plant(l, names[i / 2]);
		strcpy(other.name, "vm2");
		(void)store_create(l->twin.store, &other, l->twin.pin, &created, &err);
		try_all(l, l->twin.replica);
		look(l, after);
		if (strcmp(l->before, after) != 0)
			fail_msg("%s: what is behind the link changed:\n%s\nwas:\n%s", names[i / 2], after, l->before);
		end(l);
	}
	free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links_in_the_store_lead_nowhere),
		cmocka_unit_test(links_that_come_later_lead_nowhere),
	};
	log_init("test_store_links", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("store_links", tests, NULL, NULL);
}
