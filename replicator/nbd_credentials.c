// SPDX-License-Identifier: Apache-2.0
// That files changed is known by a digest of their bytes and modes: times are coarse, and a directory may be a link that is put elsewhere. It is taken before they are loaded, so
// that what changes in between is seen the next time.
#include "replicator/nbd_credentials.h"

#include "base/auto.h"
#include "base/clock.h"
#include "replicator/nbd_tls_session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

enum {
	DIGEST_SIZE = 32,
	FILE_MAX = 4 << 20, // no more of a file than this is looked at: a certificate has some KiB
	AGAIN_MS = 1000,    // whoever connects costs no more than a look
};

struct nbd_credentials {
	char *directory;
	SSL_CTX *context;
	unsigned char digest[DIGEST_SIZE]; // of the files that `context` was made of
	unsigned char bad[DIGEST_SIZE];	   // of the newest ones, where they could not be used
	int64_t tried_ms;		   // when that was: for want of descriptors or memory, perhaps, so they are tried again
	char failure[ERR_TEXT_MAX];	   // what is wrong with them; was said
};

static int digest_file(EVP_MD_CTX *md, const char *directory, const char *name)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	unsigned char bytes[4096];
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st = {.st_mode = 0};
	int64_t all = fd < 0 || fstat(fd, &st) < 0 ? -1 : 0;
	for (ssize_t n = 1; fd >= 0 && n > 0 && all < FILE_MAX; all += n) {
		n = read(fd, bytes, sizeof(bytes));
		if (n > 0 && EVP_DigestUpdate(md, bytes, (size_t)n) != 1)
			return -ENOMEM;
	}
	const int64_t is[] = {all, st.st_mode}; // where one ends and the next begins; and who may read it
	return EVP_DigestUpdate(md, is, sizeof(is)) == 1 ? 0 : -ENOMEM;
}

static int digest_files(const char *directory, unsigned char ret_digest[DIGEST_SIZE])
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int rc = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
	if (rc == 0)
		rc = digest_file(md, directory, "ca-cert.pem");
	if (rc == 0)
		rc = digest_file(md, directory, "server-cert.pem");
	if (rc == 0)
		rc = digest_file(md, directory, "server-key.pem");
	if (rc == 0 && EVP_DigestFinal_ex(md, ret_digest, NULL) != 1)
		rc = -ENOMEM;
	EVP_MD_CTX_free(md);
	return rc;
}

static void forget_failure(struct nbd_credentials *c)
{
	*c->failure = '\0';
	memset(c->bad, 0, sizeof(c->bad));
}

int nbd_credentials_open(const char *directory, struct nbd_credentials **ret_credentials, struct err *err)
{
	struct nbd_credentials *c = calloc(1, sizeof(*c));
	if (c)
		c->directory = strdup(directory);
	if (!c || !c->directory || digest_files(directory, c->digest)) {
		nbd_credentials_close(c);
		return err_sys(err, -ENOMEM, "serve NBD over TCP");
	}
	struct err why = {.code = 0};
	c->context = nbd_tls_context(directory, &why);
	if (!c->context) {
		nbd_credentials_close(c);
		return err_set(err, why.code, "%s", why.text);
	}
	*ret_credentials = c;
	return 0;
}

int nbd_credentials_renew(struct nbd_credentials *c, struct err *err)
{
	unsigned char digest[DIGEST_SIZE];
	if (digest_files(c->directory, digest))
		return 0; // for want of memory: the next client looks again
	if (memcmp(digest, c->digest, sizeof(digest)) == 0) {
		forget_failure(c);
		return 0;
	}
	int64_t now_ms = clock_mono_ms();
	if (memcmp(digest, c->bad, sizeof(digest)) == 0 && now_ms - c->tried_ms < AGAIN_MS)
		return 0;
	struct err why = {.code = 0};
	SSL_CTX *context = nbd_tls_context(c->directory, &why);
	if (!context) {
		memcpy(c->bad, digest, sizeof(c->bad));
		c->tried_ms = now_ms;
		if (strcmp(why.text, c->failure) == 0)
			return 0;
		memcpy(c->failure, why.text, sizeof(c->failure));
		return err_set(err, why.code, "%s", why.text);
	}
	SSL_CTX_free(c->context); // a client's own reference goes on
	c->context = context;
	memcpy(c->digest, digest, sizeof(c->digest));
	forget_failure(c);
	return 1;
}

SSL_CTX *nbd_credentials_context(const struct nbd_credentials *credentials)
{
	return credentials->context;
}

const char *nbd_credentials_directory(const struct nbd_credentials *credentials)
{
	return credentials->directory;
}

void nbd_credentials_close(struct nbd_credentials *credentials)
{
	if (!credentials)
		return;
	SSL_CTX_free(credentials->context);
	free(credentials->directory);
	free(credentials);
}
