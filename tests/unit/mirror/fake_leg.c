/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake_leg.h"

#include "leg_private.h"

#include <assert.h>
#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct disk {
	struct leg leg; /* first: the engine's own structure */
	char name[32];
	unsigned char *bytes;
	struct leg_geometry geometry;
	struct mutex lock; /* RANK_LEG */
	struct cond kick, hung;
	struct thread thread;
	size_t room;
	bool open, stop;
	struct leg_io *first, **last; /* queued */
	struct leg_io *hanging;
	unsigned int hanging_count;
	disk_rule *rule;
	void *context;
	int refuse;
	struct leg_io seen[LEG_OPS];
	unsigned int count[LEG_OPS];
};

static unsigned int open_count;

unsigned char *zeroed_create(size_t size)
{
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert(bytes != MAP_FAILED);
	return bytes;
}

void zeroed_destroy(unsigned char *bytes, size_t size)
{
	if (bytes)
		munmap(bytes, size);
}

struct disk *disk_create(const char *name, uint64_t size_bytes)
{
	struct disk *disk = calloc(1, sizeof(*disk));

	strcpy(disk->name, name);
	disk->bytes = zeroed_create(size_bytes);
	disk->room = size_bytes;
	disk->last = &disk->first;
	disk->geometry = (struct leg_geometry){
		.size_bytes = size_bytes, .block_size = 512, .mem_align = 4096, .max_io = 1 << 20, .discard = true};
	mutex_init(&disk->lock, RANK_LEG);
	cond_init(&disk->kick);
	cond_init(&disk->hung);
	return disk;
}

void disk_destroy(struct disk *disk)
{
	assert(!disk->open);
	cond_fini(&disk->hung);
	cond_fini(&disk->kick);
	mutex_fini(&disk->lock);
	zeroed_destroy(disk->bytes, disk->room);
	free(disk);
}

static int carry_out(struct disk *disk, struct leg_io *io)
{
	if (io->op != LEG_FLUSH && io->offset + io->length > disk->geometry.size_bytes)
		return -ENXIO;
	if (io->op == LEG_READ)
		memcpy(io->data, disk->bytes + io->offset, io->length);
	else if (io->op == LEG_WRITE)
		memcpy(disk->bytes + io->offset, io->data, io->length);
	return 0;
}

static void complete(struct disk *disk, struct leg_io *io, int error)
{
	if (!error)
		error = carry_out(disk, io);
	leg_complete(io, error, error ? 0 : io->length);
}

static void run(void *arg)
{
	struct disk *disk = arg;

	mutex_lock(&disk->lock);
	for (;;) {
		struct leg_io *io = disk->first;
		int answer = 0;

		if (!io) {
			if (disk->stop)
				break;
			cond_wait(&disk->kick, &disk->lock);
			continue;
		}
		disk->first = io->next;
		if (!disk->first)
			disk->last = &disk->first;
		disk->count[io->op]++;
		disk->seen[io->op] = *io;
		if (disk->rule) {
			disk_rule *rule = disk->rule;
			void *context = disk->context;

			mutex_unlock(&disk->lock);
			answer = rule(disk, io, context);
			mutex_lock(&disk->lock);
		}
		if (answer == FAKE_HANG) {
			io->next = disk->hanging;
			disk->hanging = io;
			disk->hanging_count++;
			cond_broadcast(&disk->hung);
			continue;
		}
		mutex_unlock(&disk->lock);
		complete(disk, io, answer);
		mutex_lock(&disk->lock);
	}
	mutex_unlock(&disk->lock);
}

static int submit(struct leg *leg, struct leg_io *io)
{
	struct disk *disk = (struct disk *)leg;
	int refuse;

	mutex_lock(&disk->lock);
	refuse = disk->refuse;
	if (!refuse) {
		*disk->last = io;
		disk->last = &io->next;
		cond_signal(&disk->kick);
	}
	mutex_unlock(&disk->lock);
	return refuse;
}

static void close_leg(struct leg *leg)
{
	struct disk *disk = (struct disk *)leg;

	mutex_lock(&disk->lock);
	assert(!disk->hanging);
	disk->stop = true;
	cond_signal(&disk->kick);
	mutex_unlock(&disk->lock);
	thread_join(&disk->thread);
	leg_fini(leg);
	disk->open = false;
	open_count--;
}

static int refresh(struct leg *leg)
{
	struct disk *disk = (struct disk *)leg;

	mutex_lock(&leg->lock);
	leg->geometry.size_bytes = disk->geometry.size_bytes;
	mutex_unlock(&leg->lock);
	return 0;
}

static const struct leg_ops fake_ops = {.name = "memory", .submit = submit, .refresh = refresh, .close = close_leg};

struct leg *disk_open(struct disk *disk)
{
	assert(!disk->open);
	memset(&disk->leg, 0, sizeof(disk->leg));
	if (leg_init(&disk->leg, &fake_ops, NULL, disk->name))
		abort();
	disk->leg.geometry = disk->geometry;
	disk->open = true;
	disk->stop = false;
	open_count++;
	if (thread_start(&disk->thread, disk->name, run, disk))
		abort();
	return &disk->leg;
}

void disk_release(struct disk *disk, int error)
{
	for (;;) {
		struct leg_io *io;

		mutex_lock(&disk->lock);
		io = disk->hanging;
		if (io) {
			disk->hanging = io->next;
			disk->hanging_count--;
		}
		mutex_unlock(&disk->lock);
		if (!io)
			return;
		complete(disk, io, error);
	}
}

void disk_wait_hanging(struct disk *disk, unsigned int count)
{
	mutex_lock(&disk->lock);
	while (disk->hanging_count < count)
		cond_wait(&disk->hung, &disk->lock);
	mutex_unlock(&disk->lock);
}

unsigned char *disk_bytes(struct disk *disk)
{
	return disk->bytes;
}

void disk_resize(struct disk *disk, uint64_t size_bytes)
{
	disk->geometry.size_bytes = size_bytes;
}

void disk_lies_on(struct disk *disk, dev_t filesystem, ino_t file)
{
	disk->geometry.file_dev = filesystem;
	disk->geometry.file_ino = file;
}

void disk_rule_set(struct disk *disk, disk_rule *rule, void *context)
{
	mutex_lock(&disk->lock);
	disk->rule = rule;
	disk->context = context;
	mutex_unlock(&disk->lock);
}

void disk_refuse(struct disk *disk, int error)
{
	mutex_lock(&disk->lock);
	disk->refuse = error;
	mutex_unlock(&disk->lock);
}

static struct leg_io seen(struct disk *disk, enum leg_op op, unsigned int *count)
{
	struct leg_io io;

	mutex_lock(&disk->lock);
	io = disk->seen[op];
	*count = disk->count[op];
	mutex_unlock(&disk->lock);
	return io;
}

unsigned int disk_count(struct disk *disk, enum leg_op op)
{
	unsigned int count;

	seen(disk, op, &count);
	return count;
}

uint64_t disk_last_offset(struct disk *disk, enum leg_op op)
{
	unsigned int count;

	return seen(disk, op, &count).offset;
}

size_t disk_last_length(struct disk *disk, enum leg_op op)
{
	unsigned int count;

	return seen(disk, op, &count).length;
}

unsigned int disk_last_flags(struct disk *disk, enum leg_op op)
{
	unsigned int count;

	return seen(disk, op, &count).flags;
}

unsigned int disks_open(void)
{
	return open_count;
}
