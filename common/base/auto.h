// SPDX-License-Identifier: Apache-2.0
// Locals that clean themselves when their scope ends.
//
//	AUTO_FREE char *name = strdup(...);        freed
//	AUTO_CLOSE int fd = open(...);             closed when >= 0
//	LOCK_SCOPE(&mutex);                        locked here, unlocked at the end of the block
#ifndef KAGAMI_BASE_AUTO_H
#define KAGAMI_BASE_AUTO_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void auto_free(void *at)
{
	free(*(void **)at);
}

static inline void auto_close(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline pthread_mutex_t *auto_lock(pthread_mutex_t *mutex)
{
	(void)pthread_mutex_lock(mutex);
	return mutex;
}

static inline void auto_unlock(pthread_mutex_t **mutex)
{
	(void)pthread_mutex_unlock(*mutex);
}

#define AUTO_FREE __attribute__((cleanup(auto_free)))
#define AUTO_CLOSE __attribute__((cleanup(auto_close)))
#define AUTO_NAME2(a, b) a##b
#define AUTO_NAME(a, b) AUTO_NAME2(a, b)
#define LOCK_SCOPE(mutex)                                                                                       \
	__attribute__((cleanup(auto_unlock), unused)) pthread_mutex_t *AUTO_NAME(scope_lock_, __LINE__) = auto_lock(mutex)

// Hands a self-cleaning local to the caller: the local is NULL afterwards.
#define STEAL(pointer)                                                                                          \
	({                                                                                                      \
		__typeof__(pointer) stolen_ = (pointer);                                                        \
		(pointer) = NULL;                                                                               \
		stolen_;                                                                                        \
	})

#endif
