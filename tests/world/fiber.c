// SPDX-License-Identifier: Apache-2.0
#include "tests/world/fiber.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum { STACK_SIZE = 1 << 20, SPARE_MAX = 16 };

struct fiber {
	ucontext_t context;
	void (*run)(void *context);
	void *argument;
	char *stack;
	bool ended;
};

static ucontext_t main_context;
static struct fiber *running;
static char *spare[SPARE_MAX]; // stacks: a page that was touched is worth keeping
static unsigned spares;

#ifdef FIBER_ASAN
static const void *main_bottom;
static size_t main_size;
static void *main_fake;
#endif

static void fiber_main(void)
{
	struct fiber *fiber = running;
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(NULL, &main_bottom, &main_size);
#endif
	fiber->run(fiber->argument);
	fiber->ended = true;
	running = NULL;
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(NULL, main_bottom, main_size);
#endif
	(void)setcontext(&main_context);
	abort();
}

struct fiber *fiber_new(void (*run)(void *context), void *context)
{
	struct fiber *fiber = calloc(1, sizeof(*fiber));
	assert(fiber);
	fiber->run = run;
	fiber->argument = context;
	fiber->stack = spares ? spare[--spares]
			      : mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert(fiber->stack != MAP_FAILED);
	(void)getcontext(&fiber->context);
	fiber->context.uc_stack.ss_sp = fiber->stack;
	fiber->context.uc_stack.ss_size = STACK_SIZE;
	makecontext(&fiber->context, fiber_main, 0);
	return fiber;
}

void fiber_free(struct fiber *fiber)
{
	if (!fiber)
		return;
	assert(fiber->ended);
	if (spares < SPARE_MAX)
		spare[spares++] = fiber->stack;
	else
		(void)munmap(fiber->stack, STACK_SIZE);
	free(fiber);
}

void fiber_resume(struct fiber *fiber)
{
	assert(!running && !fiber->ended);
	running = fiber;
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(&main_fake, fiber->stack, STACK_SIZE);
#endif
	(void)swapcontext(&main_context, &fiber->context);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(main_fake, NULL, NULL);
#endif
}

void fiber_yield(void)
{
	struct fiber *fiber = running;
	assert(fiber);
	running = NULL;
#ifdef FIBER_ASAN
	void *fake;
	__sanitizer_start_switch_fiber(&fake, main_bottom, main_size);
#endif
	(void)swapcontext(&fiber->context, &main_context);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fake, &main_bottom, &main_size);
#endif
}

struct fiber *fiber_self(void)
{
	return running;
}

bool fiber_ended(const struct fiber *fiber)
{
	return fiber->ended;
}
