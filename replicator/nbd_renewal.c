// SPDX-License-Identifier: Apache-2.0
// The look that is under way has the credentials. Whoever closes meanwhile leaves them to it.
#include "replicator/nbd_renewal.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/thread.h"
#include "replicator/nbd_credentials.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct look {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	char *directory;
	struct nbd_credentials *credentials; // NULL before the first look
	bool runs, left; // left: nobody waits for it any more
	int rc;
	struct err err;
};

struct nbd_renewal {
	struct look *look;
	SSL_CTX *context; // its own reference: the look's may be another by now
	bool awaited;	  // a look has begun whose end was not seen
	bool silent;	  // and that was said
};

static void look_free(struct look *look)
{
	nbd_credentials_close(look->credentials);
	free(look->directory);
	(void)pthread_cond_destroy(&look->ended);
	(void)pthread_mutex_destroy(&look->lock);
	free(look);
}

static void *look_run(void *context)
{
	struct look *look = context;
	look->err = (struct err){.code = 0};
	int rc = look->credentials ? nbd_credentials_renew(look->credentials, &look->err) : nbd_credentials_open(look->directory, &look->credentials, &look->err);
	(void)pthread_mutex_lock(&look->lock);
	look->rc = rc;
	look->runs = false;
	bool left = look->left;
	(void)pthread_cond_signal(&look->ended);
	(void)pthread_mutex_unlock(&look->lock);
	if (left)
		look_free(look);
	return NULL;
}

static int look_begin(struct look *look)
{
	pthread_t thread;
	pthread_attr_t attributes;
	look->runs = true;
	(void)pthread_attr_init(&attributes);
	(void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	int rc = -pthread_create(&thread, &attributes, look_run, look);
	(void)pthread_attr_destroy(&attributes);
	if (rc) // else it may have ended by now
		look->runs = false;
	return rc;
}

static bool look_ends(struct look *look, uint64_t wait_ms)
{
	const struct timespec until = clock_mono_after(wait_ms * UINT64_C(1000000));
	LOCK_SCOPE(&look->lock);
	while (look->runs && pthread_cond_timedwait(&look->ended, &look->lock, &until) == 0)
		;
	return !look->runs;
}

static void take(struct nbd_renewal *renewal)
{
	SSL_CTX *context = nbd_credentials_context(renewal->look->credentials);
	(void)SSL_CTX_up_ref(context);
	SSL_CTX_free(renewal->context);
	renewal->context = context;
}

static struct look *look_new(const char *directory)
{
	struct look *look = calloc(1, sizeof(*look));
	if (!look)
		return NULL;
	thread_condition_init(&look->ended);
	(void)pthread_mutex_init(&look->lock, NULL);
	look->directory = strdup(directory);
	if (look->directory)
		return look;
	look_free(look);
	return NULL;
}

// Whoever waited for it does not any more. False: it has ended, and is ours.
static bool look_leave(struct look *look)
{
	LOCK_SCOPE(&look->lock);
	look->left = look->runs;
	return look->left;
}

static int first_look(struct look *look, const char *directory, struct err *err)
{
	int rc = look_begin(look);
	if (rc)
		return err_sys(err, rc, "start a thread");
	if (!look_ends(look, NBD_RENEWAL_START_MS))
		return err_set(err, -ETIMEDOUT, "%s has not answered for %d s: see to the storage under it", directory, NBD_RENEWAL_START_MS / 1000);
	return look->rc ? err_set(err, look->rc, "%s", look->err.text) : 0;
}

int nbd_renewal_open(const char *directory, struct nbd_renewal **ret_renewal, struct err *err)
{
	struct nbd_renewal *renewal = calloc(1, sizeof(*renewal));
	struct look *look = look_new(directory);
	int rc = renewal && look ? first_look(look, directory, err) : err_sys(err, -ENOMEM, "serve NBD over TCP");
	if (rc) {
		free(renewal);
		if (look && !look_leave(look))
			look_free(look);
		return rc;
	}
	renewal->look = look;
	take(renewal);
	*ret_renewal = renewal;
	return 0;
}

// Its thread has ended, and what it has is ours again.
static int look_end(struct nbd_renewal *renewal, struct err *err)
{
	const struct look *look = renewal->look;
	renewal->awaited = false;
	take(renewal);
	return look->rc < 0 ? err_set(err, look->rc, "%s", look->err.text) : look->rc;
}

int nbd_renewal_look(struct nbd_renewal *renewal, struct err *err)
{
	struct look *look = renewal->look;
	int before = 0;
	if (renewal->awaited) { // it began before this client came
		if (!look_ends(look, 0))
			return 0;
		before = look_end(renewal, err);
	}
	if (look_begin(look))
		return before; // for want of threads: the next client looks again
	renewal->awaited = true;
	if (look_ends(look, NBD_RENEWAL_WAIT_MS)) {
		renewal->silent = false;
		int rc = look_end(renewal, err);
		return rc ? rc : before;
	}
	if (before || renewal->silent)
		return before;
	renewal->silent = true;
	return err_set(err, -ETIMEDOUT, "%s has not answered for %d s: see to the storage under it", look->directory, NBD_RENEWAL_WAIT_MS / 1000);
}

SSL_CTX *nbd_renewal_context(const struct nbd_renewal *renewal)
{
	return renewal->context;
}

const char *nbd_renewal_directory(const struct nbd_renewal *renewal)
{
	return renewal->look->directory;
}

void nbd_renewal_close(struct nbd_renewal *renewal)
{
	if (!renewal)
		return;
	struct look *look = renewal->look;
	if (!look_leave(look))
		look_free(look);
	SSL_CTX_free(renewal->context);
	free(renewal);
}
