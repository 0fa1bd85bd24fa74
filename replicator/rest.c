// SPDX-License-Identifier: Apache-2.0
#include "replicator/rest.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/file_system.h"
#include "base/names.h"
#include "replicator/run_note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

static const char MAGIC[8] = "KAGAMIRE";

enum { REST_FILE_BYTES = 4096 };
#define REST_SLACK_NS INT64_C(100000000) // a change has its time that long after the note of it at the most: it takes it when it begins, not when it ends
#define REST_TICK_NS INT64_C(20000000)   // and before it no longer than this, since the clock of files goes in steps
#define SECOND_NS INT64_C(1000000000)

static int64_t ns_of(const struct timespec *ts)
{
	return ts->tv_sec * INT64_C(1000000000) + ts->tv_nsec;
}

// 0 where the kernel does not tell: the note is in memory as a rule, and no older than the boot.
uint64_t rest_boot(void)
{
	char text[64];
	AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
	return got > 0 ? XXH3_64bits(text, (size_t)got) : 0;
}

static int64_t boot_wall_ns(void)
{
	struct timespec since = {0};
	(void)clock_gettime(CLOCK_BOOTTIME, &since);
	return clock_wall_ns() - ns_of(&since);
}

static bool note_read(const char *path, struct rest_page *ret_page)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && read(fd, ret_page, sizeof(*ret_page)) == (ssize_t)sizeof(*ret_page) &&
	       memcmp(ret_page->magic, MAGIC, sizeof(MAGIC)) == 0 && ret_page->boot == rest_boot();
}

static bool same(const struct rest_page *page, const struct stat *st)
{
	return page->inode == st->st_ino && page->size == (uint64_t)st->st_size && page->mtime_ns == ns_of(&st->st_mtim) &&
	       page->ctime_ns == ns_of(&st->st_ctim);
}

// The newest time that a change of ours can have: that of the write's end where it is known, else not long after it began.
static int64_t newest_ns(const struct rest_page *page)
{
	int64_t stirred_ns = atomic_load(&page->stirred_ns), ended_ns = atomic_load(&page->ended_ns);
	bool ended = atomic_load(&page->stirs) == atomic_load(&page->ended_stirs) && ended_ns >= stirred_ns; // else the clock was set back meanwhile
	return ended ? ended_ns : stirred_ns + REST_SLACK_NS;
}

uint64_t rest_hidden_ns(const struct stat *st)
{
	int64_t changed_ns = ns_of(&st->st_ctim), over_ns = changed_ns + SECOND_NS + REST_TICK_NS, now_ns = clock_wall_ns();
	if (changed_ns % SECOND_NS || now_ns >= over_ns)
		return 0;
	return (uint64_t)(over_ns - now_ns < SECOND_NS + REST_TICK_NS ? over_ns - now_ns : SECOND_NS + REST_TICK_NS); // the clock was set back
}

// With a change of ours under way, or one that just was, the image may have been changed since that began, and not long after; nor is it as it was before: at the last rest, or before a
// write that had ended. Where times are whole seconds others may have changed it within that of our newest change, and nothing tells (N5).
static bool disturbed_at_work(const struct rest_page *page, const struct stat *st)
{
	int64_t changed_ns = ns_of(&st->st_ctim), written_ns = atomic_load(&page->written_ns);
	if (changed_ns % SECOND_NS == 0 || changed_ns > newest_ns(page) || changed_ns < written_ns - REST_TICK_NS)
		return true;
	return page->inode && (page->inode != st->st_ino || changed_ns < page->ctime_ns);
}

// A device that has counted nothing since it came up may be one that counts nothing.
static bool counts_tell(const struct device_counts *counts)
{
	return counts->written != 0;
}

static bool device_same(const struct rest_page *page, int fd)
{
	struct device_counts now;
	return device_counts_read(fd, &now) && counts_tell(&now) && device_counts_same(&now, &page->counts);
}

// N4
static bool disturbance_untold(const struct rest_page *page)
{
	return atomic_load(&page->disturbances) != atomic_load(&page->disturbances_told);
}

enum rest_verdict rest_judge(const char *run_dir, const char *protection, const char *disk, int fd)
{
	char path[RUN_NOTE_PATH_SIZE];
	struct rest_page page;
	struct stat st;
	if (run_note_path(path, run_dir, "rest", protection, disk) || fstat(fd, &st) < 0)
		return REST_DISTURBED;
	bool noted = note_read(path, &page), disturbed;
	if (S_ISBLK(st.st_mode)) // whose counts begin anew at each boot
		disturbed = !noted || page.boot == 0 || !atomic_load(&page.at_rest) || !device_same(&page, fd);
	else if (noted)
		disturbed = atomic_load(&page.at_rest) ? !same(&page, &st) || atomic_load(&page.early) : disturbed_at_work(&page, &st);
	else
		disturbed = ns_of(&st.st_ctim) > boot_wall_ns();
	if (disturbed || (noted && disturbance_untold(&page)))
		return REST_DISTURBED;
	return noted || S_ISBLK(st.st_mode) ? REST_LEFT_ALONE : REST_UNTOLD;
}

// In memory alone: elsewhere a store to a page may wait for a disk, and every guest with it, or find no room, which is the end of the process.
static bool is_in_memory(int fd)
{
	uint32_t type = file_system_type(fd);
	return type == TMPFS_MAGIC || type == RAMFS_MAGIC;
}

// All of its room is taken now: a page of it that could not be had later would be the end of the process.
static int note_make(const char *path, struct rest_page **ret_page)
{
	const char zeros[REST_FILE_BYTES] = {0};
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (!is_in_memory(fd))
		return -EMEDIUMTYPE;
	ssize_t wrote = write(fd, zeros, sizeof(zeros));
	if (wrote != (ssize_t)sizeof(zeros))
		return wrote < 0 ? -errno : -ENOSPC;
	void *at = mmap(NULL, REST_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*ret_page = at;
	return 0;
}

int rest_begin(struct rest *rest, const char *run_dir, const char *protection, const char *disk, int fd, struct err *err)
{
	char path[RUN_NOTE_PATH_SIZE];
	*rest = (struct rest){.watch = {.stat_fd = -1, .file_fd = -1}};
	int rc = run_note_place(path, run_dir, "rest", protection, disk);
	if (rc == 0) {
		if (unlink(path) < 0 && errno != ENOENT) // the file is new: whoever has the older one mapped does not write to ours
			return err_sys(err, -errno, "remove the note %s", path);
		rc = note_make(path, &rest->page);
		if (rc)
			(void)unlink(path);
	}
	if (rc == -EMEDIUMTYPE)
		return err_set(err, rc, "the run directory %s is not in memory (tmpfs), where notes of images are kept", run_dir);
	if (rc)
		return err_sys(err, rc, "make the note %s", path);
	struct stat st;
	rest->device = fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
	if (rest->device && !device_watch_open(fd, &rest->watch))
		device_watch_close(&rest->watch);
	rest_stir(rest);
	rest->page->boot = rest_boot();
	memcpy(rest->page->magic, MAGIC, sizeof(MAGIC));
	return 0;
}

void rest_end(struct rest *rest)
{
	if (!rest->page)
		return;
	device_watch_close(&rest->watch);
	(void)munmap(rest->page, REST_FILE_BYTES);
	rest->page = NULL;
}

static bool note_device(struct rest *rest)
{
	struct device_counts counts;
	if (!device_watch_read(&rest->watch, &counts) || !counts_tell(&counts))
		return false;
	rest->page->counts = counts;
	return true;
}

static bool note_file(struct rest_page *page, int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return false;
	page->inode = st.st_ino;
	page->size = (uint64_t)st.st_size;
	page->mtime_ns = ns_of(&st.st_mtim);
	page->ctime_ns = ns_of(&st.st_ctim);
	atomic_store(&page->early, rest_hidden_ns(&st) != 0);
	return true;
}

// N5: that second may be over.
static void note_again(struct rest *rest, int fd)
{
	struct stat st;
	if (fstat(fd, &st) == 0 && same(rest->page, &st) && rest_hidden_ns(&st) == 0)
		atomic_store(&rest->page->early, 0);
}

// Who holds it counts first, and then stores that it is not at rest: whichever of the two stores comes last, it is not. Nor is it after one that came and went since the look.
void rest_now(struct rest *rest, int fd)
{
	struct rest_page *page = rest->page;
	unsigned held = atomic_load(&rest->held);
	if (page && atomic_load_explicit(&page->at_rest, memory_order_relaxed) && atomic_load_explicit(&page->early, memory_order_relaxed))
		note_again(rest, fd);
	if (!page || atomic_load_explicit(&page->at_rest, memory_order_relaxed) || held & 1 || !(rest->device ? note_device(rest) : note_file(page, fd)))
		return;
	atomic_store(&page->at_rest, 1);
	if (atomic_load(&rest->held) != held)
		atomic_store(&page->at_rest, 0);
}

bool rest_broken(struct rest *rest, const struct stat *st)
{
	if (rest->device || !rest_lasts(rest) || same(rest->page, st) || atomic_load(&rest->held) & 1)
		return false;
	rest_stir(rest);
	return true;
}
