// SPDX-License-Identifier: Apache-2.0
// As much of the NBD protocol as QEMU's client asks for: fixed newstyle, GO, simple replies, READ and DISC.
// Source: the protocol's document (doc/proto.md of nbd).
#include "receiver/proven_view.h"

#include "base/allowance.h"
#include "base/auto.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "receiver/chain.h"
#include "receiver/replica.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	OPT_EXPORT_NAME = 1, OPT_ABORT = 2, OPT_INFO = 6, OPT_GO = 7,
	REP_ACK = 1, REP_INFO = 3,
	OPTION_MAX = 4096,
	READ_MAX = 32 << 20,
	COMMAND_READ = 0, COMMAND_DISC = 2,
	FLAGS = 1 | 2, // there are flags; read-only
	TOLD_MAX = 10, // lines of the log
	CACHE_BLOCKS = 64, // small reads come many to a block
	ACCEPT_PAUSE_US = 100000,
	UNACCEPTED_BURST = 5,
};
#define UNACCEPTED_EACH_NS (UINT64_C(12) * 1000000000)
#define REP_UNSUPPORTED UINT32_C(0x80000001)
#define OPTION_MAGIC UINT64_C(0x49484156454f5054)
#define REPLY_MAGIC UINT64_C(0x3e889045565a9)
#define REQUEST_MAGIC UINT32_C(0x25609513)
#define SIMPLE_MAGIC UINT32_C(0x67446698)

struct proven_view {
	struct replica *replica;
	uint64_t point;
	struct verifier *verifier;
	struct chain *chain;
	char name[PROVEN_VIEW_NAME_SIZE];
	int listener;
	struct allowance unaccepted; // of what is said when there is no descriptor for a client
	pthread_t thread;
	unsigned char *buf; // READ_MAX: an answer
	uint64_t cached[CACHE_BLOCKS]; // index + 1; 0: none
	unsigned char *cache;
	pthread_mutex_t lock; // for what follows
	int client;	      // -1: none
	bool stop;
	struct err why; // the first damage
	unsigned told;	// how often: a client tries again
};

// --- bytes ---

static int receive(int fd, void *to, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(fd, (char *)to + got, len - got, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		got += (size_t)n;
	}
	return 0;
}

static int put(int fd, const void *from, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(fd, (const char *)from + done, len - done, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

// --- what is asked for ---

static void damage_note(struct proven_view *view, uint64_t index, const struct err *err)
{
	bool first;
	{
		LOCK_SCOPE(&view->lock);
		if (view->told++ >= TOLD_MAX)
			return;
		first = view->why.code == 0;
		if (first)
			view->why = *err;
	}
	log_error("what is read of a point is damaged, and is refused protection=%s point=%llu block=%llu reason=\"%s\"", view->replica->name,
		  (unsigned long long)view->point, (unsigned long long)index, err->text);
	if (first && view->verifier)
		verifier_distrust(view->verifier, view->replica, view->point);
}

static int block_get(struct proven_view *view, uint64_t index, const unsigned char **ret_block)
{
	static const unsigned char zeros[BLOCK_SIZE];
	size_t slot = index % CACHE_BLOCKS;
	unsigned char *block = view->cache + slot * BLOCK_SIZE;
	struct err err = {.code = 0};
	*ret_block = zeros;
	if (!chain_holds(view->chain, index))
		return 0;
	*ret_block = block;
	if (view->cached[slot] == index + 1)
		return 0;
	view->cached[slot] = 0;
	int rc = chain_get(view->chain, index, block, &err);
	if (rc == 0)
		view->cached[slot] = index + 1;
	else if (!chain_lacks(rc))
		damage_note(view, index, &err);
	return rc;
}

static uint32_t error_of(int rc)
{
	if (rc == -ESHUTDOWN)
		return ESHUTDOWN;
	return chain_lacks(rc) ? ENOMEM : EIO; // what a client may ask again, and what it may not
}

// Into view->buf. 0, or an error of the protocol.
static uint32_t range_get(struct proven_view *view, uint64_t off, uint32_t len)
{
	uint64_t size = chain_size(view->chain);
	if (len > READ_MAX || off > size || len > size - off)
		return EINVAL;
	for (uint32_t done = 0; done < len;) {
		const unsigned char *block;
		uint64_t at = off + done;
		uint32_t within = (uint32_t)(at % BLOCK_SIZE), part = (uint32_t)min_u64(BLOCK_SIZE - within, len - done);
		int rc = block_get(view, at / BLOCK_SIZE, &block);
		if (rc)
			return error_of(rc);
		memcpy(view->buf + done, block + within, part);
		done += part;
	}
	return 0;
}

// --- the conversation ---

static int option_answer(int fd, uint32_t option, uint32_t type, const void *data, uint32_t len)
{
	unsigned char head[20];
	put_be64(head, REPLY_MAGIC);
	put_be32(head + 8, option);
	put_be32(head + 12, type);
	put_be32(head + 16, len);
	int rc = put(fd, head, sizeof(head));
	return rc || len == 0 ? rc : put(fd, data, len);
}

static int info_answer(struct proven_view *view, int fd, uint32_t option)
{
	unsigned char info[12];
	put_be16(info, 0);
	put_be64(info + 2, chain_size(view->chain));
	put_be16(info + 10, FLAGS);
	int rc = option_answer(fd, option, REP_INFO, info, sizeof(info));
	return rc ? rc : option_answer(fd, option, REP_ACK, NULL, 0);
}

// Until the client has chosen: what the name is does not matter, as there is one disk.
static int negotiate(struct proven_view *view, int fd)
{
	unsigned char head[18] = "NBDMAGICIHAVEOPT", option[16], data[OPTION_MAX];
	put_be16(head + 16, 1 | 2);
	int rc = put(fd, head, sizeof(head));
	if (rc == 0)
		rc = receive(fd, data, 4);
	while (rc == 0) {
		rc = receive(fd, option, sizeof(option));
		uint32_t what = get_be32(option + 8), len = get_be32(option + 12);
		if (rc == 0 && (get_be64(option) != OPTION_MAGIC || len > sizeof(data)))
			rc = -EPROTO;
		if (rc == 0)
			rc = receive(fd, data, len);
		if (rc)
			return rc;
		if (what == OPT_ABORT || what == OPT_EXPORT_NAME)
			return -EPROTO;
		if (what == OPT_GO || what == OPT_INFO)
			rc = info_answer(view, fd, what);
		else
			rc = option_answer(fd, what, REP_UNSUPPORTED, NULL, 0);
		if (what == OPT_GO)
			return rc;
	}
	return rc;
}

static void serve(struct proven_view *view, int fd)
{
	unsigned char request[28], reply[16];
	int rc = negotiate(view, fd);
	while (rc == 0 && (rc = receive(fd, request, sizeof(request))) == 0) {
		uint16_t command = get_be16(request + 6);
		uint64_t off = get_be64(request + 16);
		uint32_t len = get_be32(request + 24), error;
		if (get_be32(request) != REQUEST_MAGIC || command == COMMAND_DISC)
			return;
		error = command == COMMAND_READ ? range_get(view, off, len) : EINVAL;
		put_be32(reply, SIMPLE_MAGIC);
		put_be32(reply + 4, error);
		memcpy(reply + 8, request + 8, 8);
		rc = put(fd, reply, sizeof(reply));
		if (rc == 0 && error == 0)
			rc = put(fd, view->buf, len);
	}
}

static bool is_ours(int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == geteuid();
}

static bool client_set(struct proven_view *view, int fd)
{
	LOCK_SCOPE(&view->lock);
	view->client = fd;
	return !view->stop;
}

// No client, for the moment: memory and descriptors come back, and a mount lives by this thread. Only the end of the view ends it.
static void accept_failed(struct proven_view *view, int error)
{
	if (error != EINTR && error != ECONNABORTED && client_set(view, -1)) {
		if (allowance_take(&view->unaccepted, clock_mono_ns(), UNACCEPTED_EACH_NS, UNACCEPTED_BURST))
			log_warning("the view of a point takes no client for the moment protection=%s point=%llu errno=%d", view->replica->name,
				    (unsigned long long)view->point, error);
		(void)usleep(ACCEPT_PAUSE_US);
	}
}

static void *view_thread(void *context)
{
	struct proven_view *view = context;
	while (client_set(view, -1)) {
		int fd = accept4(view->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0) {
			accept_failed(view, errno);
			continue;
		}
		if (is_ours(fd) && client_set(view, fd))
			serve(view, fd);
		(void)client_set(view, -1);
		(void)close(fd);
	}
	return NULL;
}

// --- life ---

static int listen_on(struct proven_view *view, struct err *err)
{
	unsigned char random[16];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return err_sys(err, -errno, "get random bytes");
	int n = snprintf(view->name, sizeof(view->name), "kagami-");
	for (size_t i = 0; i < sizeof(random); i++)
		n += snprintf(view->name + n, sizeof(view->name) - (size_t)n, "%02x", random[i]);
	memcpy(address.sun_path + 1, view->name, (size_t)n);
	view->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	if (view->listener < 0 || bind(view->listener, (struct sockaddr *)&address, len) || listen(view->listener, 4))
		return err_sys(err, -errno, "make a socket for the storage daemon");
	return 0;
}

static void view_free(struct proven_view *view)
{
	chain_close(view->chain);
	if (view->listener >= 0)
		(void)close(view->listener);
	(void)pthread_mutex_destroy(&view->lock);
	free(view->buf);
	free(view->cache);
	free(view);
}

static int disk_number(const struct replica *replica, const char *name, unsigned *ret_disk)
{
	for (unsigned i = 0; i < replica->prot.disk_count; i++)
		if (strcmp(replica->prot.disk[i].name, name) == 0) {
			*ret_disk = i;
			return 0;
		}
	return -ENOENT;
}

int proven_view_start(struct replica *replica, uint64_t point, const char *disk, struct verifier *verifier, struct proven_view **ret_view,
		      struct err *err)
{
	struct proven_view *view = calloc(1, sizeof(*view));
	unsigned number = 0;
	if (!view)
		return err_set(err, -ENOMEM, "out of memory");
	*view = (struct proven_view){.replica = replica, .point = point, .verifier = verifier, .listener = -1, .client = -1};
	(void)pthread_mutex_init(&view->lock, NULL);
	view->buf = malloc(READ_MAX);
	view->cache = malloc((size_t)CACHE_BLOCKS * BLOCK_SIZE);
	int rc = view->buf && view->cache ? disk_number(replica, disk, &number) : -ENOMEM;
	if (rc)
		err_sys(err, rc, "show disk %s", disk);
	else
		rc = chain_open(replica, point, number, &view->chain, err);
	if (rc == 0)
		rc = listen_on(view, err);
	if (rc == 0 && (rc = -pthread_create(&view->thread, NULL, view_thread, view)))
		err_sys(err, rc, "start a thread");
	if (rc) {
		view_free(view);
		return rc;
	}
	*ret_view = view;
	return 0;
}

const char *proven_view_name(const struct proven_view *view)
{
	return view->name;
}

bool proven_view_damaged(struct proven_view *view, struct err *err)
{
	if (!view)
		return false;
	LOCK_SCOPE(&view->lock);
	if (view->why.code)
		*err = view->why;
	return view->why.code != 0;
}

void proven_view_stop(struct proven_view *view)
{
	if (!view)
		return;
	{
		LOCK_SCOPE(&view->lock);
		view->stop = true;
		(void)shutdown(view->listener, SHUT_RDWR);
		if (view->client >= 0)
			(void)shutdown(view->client, SHUT_RDWR);
	}
	(void)pthread_join(view->thread, NULL);
	view_free(view);
}
