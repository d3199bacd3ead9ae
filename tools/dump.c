/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dump.h"

#include "mirrorfs/base/log.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <ucontext.h>

#define MOST 64 /* of each kind */

extern const char __executable_start, __etext;

void dump_in_flight(struct front *front, struct mirror *mirror)
{
	struct front_in_flight *requests = calloc(MOST, sizeof(*requests));
	struct mirror_in_flight *tries = calloc(MOST, sizeof(*tries));
	size_t request_count = requests ? front_in_flight(front, requests, MOST) : 0,
	       try_count = tries ? mirror_in_flight(mirror, tries, MOST) : 0;

	log_info("in flight: requests=%zu leg_requests=%zu", request_count, try_count);
	for (size_t i = 0; i < request_count; i++)
		log_info("in flight: request op=%s node=%llu pid=%u since_ms=%llu", requests[i].op,
			 (unsigned long long)requests[i].node, requests[i].pid,
			 (unsigned long long)requests[i].since_ns / 1000000);
	for (size_t i = 0; i < try_count; i++)
		log_info("in flight: leg=%d op=%s block=%llu count=%u since_ms=%llu%s", tries[i].leg, tries[i].op,
			 (unsigned long long)tries[i].block, tries[i].count,
			 (unsigned long long)tries[i].since_ns / 1000000,
			 tries[i].abandoned ? " abandoned: nobody waits for it any more" : "");
	free(requests);
	free(tries);
}

static const void *instruction_of(const void *context)
{
#if defined(__x86_64__)
	return (const void *)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return (const void *)((const ucontext_t *)context)->uc_mcontext.pc;
#else
	return NULL;
#endif
}

/* The handler is reset: what comes again, or is raised again by whoever returns from here, ends the process. */
static void last_line(int signal_number, siginfo_t *info, void *context)
{
	const char *at = instruction_of(context), *in = "outside of mirrorfs";
	char thread[17] = "";

	prctl(PR_GET_NAME, thread);
	if (at >= &__executable_start && at < &__etext) {
		in = "mirrorfs";
		at -= &__executable_start - (const char *)NULL;
	}
	log_error("ended by a fault: signal=SIG%s thread=%s at=%p in=\"%s\" address=%p version=%s; addr2line -e tells "
		  "the line of the source",
		  sigabbrev_np(signal_number), thread, (const void *)at, in, info->si_addr, MIRRORFS_VERSION);
	/* Sent by somebody, it does not come again by itself. */
	if (info->si_code <= 0)
		raise(signal_number);
}

void dump_last_line(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction action = { .sa_sigaction = last_line, .sa_flags = SA_SIGINFO | SA_RESETHAND };

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigaction(faults[i], &action, NULL);
}
