/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * While requests follow each other closely, the kernel is asked not to let processors sleep so deep that waking one
 * takes longer than a bound (PM QoS, /dev/cpu_dma_latency). Who makes requests one by one sleeps for each, and so does
 * who answers them: in a virtual machine that halts its processors, waking these takes longer than most requests.
 *
 * The wish is one of the whole machine, and costs power or the time of its host. So it is made with the second of two
 * requests that come within a moment, and taken back soon after the last; when the daemon ends, however it ends, the
 * kernel takes it back. By itself it is made only where it is known to help (latency_auto()).
 *
 * Lock: RANK_LEAF, for the wish and who watches over it; none for a request while the wish is in force.
 */
#include "front_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICE "/dev/cpu_dma_latency"
#define NO_WISH 2000000000 /* the kernel's PM_QOS_CPU_LATENCY_DEFAULT_VALUE */
#define CLOSE_NS (NSEC_PER_MSEC / 5)
#define LINGER_NS (10 * NSEC_PER_MSEC)

struct latency {
	int fd;
	int32_t bound_us;
	_Atomic uint64_t last_ns; /* when the last request came */
	_Atomic bool wished;
	struct mutex lock;
	struct cond moved;
	bool over;
	struct thread thread;
};

static void wish(struct latency *latency, int32_t bound_us)
{
	if (write(latency->fd, &bound_us, sizeof(bound_us)) != sizeof(bound_us))
		log_debug("%s: %s", DEVICE, strerror(errno));
}

/* Takes the wish back when it has served. */
static void latency_run(void *arg)
{
	struct latency *latency = arg;

	mutex_lock(&latency->lock);
	while (!latency->over) {
		uint64_t until_ns = atomic_load(&latency->last_ns) + LINGER_NS;

		if (!latency->wished) {
			cond_wait(&latency->moved, &latency->lock);
		} else if (clock_now_ns() < until_ns) {
			cond_wait_until(&latency->moved, &latency->lock, until_ns);
		} else {
			wish(latency, NO_WISH);
			atomic_store(&latency->wished, false);
		}
	}
	mutex_unlock(&latency->lock);
}

void latency_request(struct latency *latency, uint64_t now_ns)
{
	uint64_t last_ns;

	if (!latency)
		return;
	last_ns = atomic_load_explicit(&latency->last_ns, memory_order_relaxed);
	/* The line that all processors read is written seldom while many requests come. */
	if (now_ns > last_ns + CLOSE_NS / 16)
		atomic_store_explicit(&latency->last_ns, now_ns, memory_order_relaxed);
	if (now_ns > last_ns + CLOSE_NS || atomic_load_explicit(&latency->wished, memory_order_relaxed))
		return;
	mutex_lock(&latency->lock);
	if (!latency->wished) {
		wish(latency, latency->bound_us);
		atomic_store(&latency->wished, true);
		cond_signal(&latency->moved);
	}
	mutex_unlock(&latency->lock);
}

/* A kernel with this driver runs in a virtual machine; the wish for 0 has its processors poll instead of halting. */
static bool latency_auto(void)
{
	char driver[32] = "";
	FILE *file = fopen("/sys/devices/system/cpu/cpuidle/current_driver", "re");

	if (!file)
		return false;
	if (!fgets(driver, sizeof(driver), file))
		driver[0] = '\0';
	fclose(file);
	return !strcmp(driver, "haltpoll\n");
}

static void latency_free(struct latency *latency)
{
	close(latency->fd);
	cond_fini(&latency->moved);
	mutex_fini(&latency->lock);
	free(latency);
}

int latency_create(const struct front_options *options, struct latency **result, struct error *error)
{
	bool chosen = options->cpu_latency == FRONT_LATENCY_AUTO;
	struct latency *latency;
	int code;

	*result = NULL;
	if (options->cpu_latency == FRONT_LATENCY_OFF || (chosen && !latency_auto()))
		return 0;
	latency = calloc(1, sizeof(*latency));
	if (!latency)
		return -ENOMEM;
	latency->bound_us = chosen ? 0 : (int32_t)options->cpu_latency_us;
	latency->fd = open(DEVICE, O_WRONLY | O_CLOEXEC);
	if (latency->fd < 0) {
		code = chosen ? 0
			      : error_set(error, -errno,
					  "cpu-latency=%d: %s cannot be opened: %s; it takes root, or leave to write "
					  "there; cpu-latency=off goes without",
					  latency->bound_us, DEVICE, strerror(errno));
		free(latency);
		return code;
	}
	mutex_init(&latency->lock, RANK_LEAF);
	cond_init(&latency->moved);
	code = thread_start(&latency->thread, "front-latency", latency_run, latency);
	if (code) {
		latency_free(latency);
		return code;
	}
	*result = latency;
	return 0;
}

void latency_destroy(struct latency *latency)
{
	if (!latency)
		return;
	mutex_lock(&latency->lock);
	latency->over = true;
	cond_signal(&latency->moved);
	mutex_unlock(&latency->lock);
	thread_join(&latency->thread);
	latency_free(latency);
}
