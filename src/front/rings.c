/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rings of a mount (ring.c), made before any thread runs: how many entries and threads each processor has. The
 * kernel wants an entry for every processor that there can be; and where requests come from now, some may wait.
 */
#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SHARE_LEAST 4 /* entries of a processor: a few that wait may not be all */
#define SHARE_MOST 32u
#define STANDBY 2u /* threads of a processor beyond its entries, as a leg may be slow to give back what a ring had */

/* ---- which processors there are ---- */

/* Of a list as "0-3,8". False: it cannot be read, or is longer than the set. */
static bool cpus_listed(const char *path, cpu_set_t *cpus)
{
	unsigned int first, last;
	FILE *file = fopen(path, "re");
	int separator = ',';

	CPU_ZERO(cpus);
	if (!file)
		return false;
	while (separator == ',' && fscanf(file, "%u", &first) == 1) {
		last = first;
		separator = fgetc(file);
		if (separator == '-' && fscanf(file, "%u", &last) == 1)
			separator = fgetc(file);
		for (; first <= last && first < CPU_SETSIZE; first++)
			CPU_SET(first, cpus);
		if (last >= CPU_SETSIZE)
			separator = '?';
	}
	fclose(file);
	return separator == '\n';
}

/* ---- making them ---- */

static int ring_create(struct front *front, struct ring *ring, unsigned int cpu, bool begins)
{
	ring->cpu = cpu;
	ring->begins = begins;
	ring->queue = &front->ring_queues[cpu];
	STAILQ_INIT(&ring->ready);
	STAILQ_INIT(&ring->ended);
	STAILQ_INIT(&ring->inbox);
	ring->legs = leg_ring_create(front->ring_entries, ring_entry_came, ring);
	return ring->legs ? 0 : -errno;
}

static int queues_create(struct front *front)
{
	front->ring_queues = calloc(CPU_SETSIZE, sizeof(*front->ring_queues));
	if (!front->ring_queues)
		return -ENOMEM;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		struct ring_queue *queue = &front->ring_queues[cpu];

		mutex_init(&queue->lock, RANK_LEAF);
		TAILQ_INIT(&queue->idle);
		STAILQ_INIT(&queue->waiting);
	}
	return 0;
}

/* Entries of a processor: as many requests of all sizes as there is memory for, within reason. */
static unsigned int share_of(const struct front *front, unsigned int processors)
{
	unsigned int share = (unsigned int)(front->buffer_bytes / FRONT_IO_MAX) / processors;

	if (share > SHARE_MOST)
		share = SHARE_MOST;
	if (share < front->threads / processors)
		share = front->threads / processors;
	return share < SHARE_LEAST ? SHARE_LEAST : share;
}

/* Each possible processor has a queue that wants an entry; most are where requests can come from now. */
int rings_create(struct front *front)
{
	unsigned int share, standby, entries;
	cpu_set_t possible, online, ours;
	int error = 0;

	if (!cpus_listed("/sys/devices/system/cpu/possible", &possible) ||
	    !cpus_listed("/sys/devices/system/cpu/online", &online))
		return -ENOSYS;
	CPU_AND(&online, &online, &possible);
	share = share_of(front, (unsigned int)CPU_COUNT(&online));
	standby = STANDBY * (unsigned int)CPU_COUNT(&online);
	entries = (unsigned int)(CPU_COUNT(&possible) + (int)(share - 1) * CPU_COUNT(&online));
	if (entries > front->buffer_bytes / FRONT_IO_LEAST)
		return -E2BIG;
	front->ring_entries = entries;
	ours = online;
	if (!sched_getaffinity(0, sizeof(ours), &ours))
		CPU_AND(&ours, &ours, &online);
	front->poll.processors = (unsigned int)CPU_COUNT(&ours);
	front->rings = calloc(entries + standby, sizeof(*front->rings));
	error = front->rings ? queues_create(front) : -ENOMEM;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE && !error; cpu++) {
		unsigned int with = CPU_ISSET(cpu, &online) ? share : CPU_ISSET(cpu, &possible) ? 1 : 0;
		unsigned int wanted = with + (CPU_ISSET(cpu, &online) ? STANDBY : 0);

		for (unsigned int i = 0; i < wanted && !error; i++) {
			error = ring_create(front, &front->rings[front->ring_count], cpu, i < with);
			front->ring_count += !error;
		}
	}
	if (error)
		rings_destroy(front);
	return error;
}

void rings_destroy(struct front *front)
{
	for (; front->ring_count; front->ring_count--) {
		struct ring *ring = &front->rings[front->ring_count - 1];

		if (ring->legs)
			leg_ring_destroy(ring->legs);
	}
	for (unsigned int cpu = 0; front->ring_queues && cpu < CPU_SETSIZE; cpu++)
		mutex_fini(&front->ring_queues[cpu].lock);
	free(front->ring_queues);
	free(front->rings);
	front->ring_queues = NULL;
	front->rings = NULL;
}

struct ring *rings_at(struct front *front, unsigned int i)
{
	return i < front->ring_count ? &front->rings[i] : NULL;
}

void rings_end(struct front *front)
{
	for (unsigned int i = 0; i < front->ring_count; i++) {
		struct ring *ring = &front->rings[i];

		mutex_lock(&ring->queue->lock);
		ring->queue->over = true;
		if (ring->legs)
			leg_ring_wake(ring->legs);
		mutex_unlock(&ring->queue->lock);
	}
}
