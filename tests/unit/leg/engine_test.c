/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engines on image files and, as root, on a loop device; locks; addresses. */
#include "leg_test.h"

#include "mirrorfs/base/clock.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define IMAGE_SIZE (8u << 20)
#define PATIENCE_NS (60 * NSEC_PER_SEC)

static const enum leg_engine engines[] = { LEG_ENGINE_URING, LEG_ENGINE_THREADS };
static const char *const engine_names[] = { "uring", "threads" };

static struct leg *open_leg(const char *path, struct leg_options options)
{
	struct error error = { "" };
	struct leg *leg;

	ck_assert_msg(!leg_open(path, &options, &leg, &error), "%s", error.text);
	return leg;
}

static int open_error(const char *path, struct leg_options options, struct error *error)
{
	struct leg *leg = (struct leg *)1;
	int result;

	error->text[0] = 0;
	result = leg_open(path, &options, &leg, error);
	if (result) {
		ck_assert_ptr_null(leg);
		ck_assert_msg(error->text[0], "nothing was told about %s", path);
	} else {
		leg_close(leg);
	}
	return result;
}

START_TEST(an_image_keeps_what_was_written)
{
	char *path = leg_test_image(IMAGE_SIZE + 1000);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = engines[_i] });
	const struct leg_geometry *geometry = leg_geometry(leg);

	ck_assert_str_eq(leg_engine_name(leg), engine_names[_i]);
	ck_assert_str_eq(leg_address(leg), path);
	ck_assert_uint_eq(geometry->size_bytes, IMAGE_SIZE);
	ck_assert_uint_ge(geometry->max_io, IOBUF_MAX);
	ck_assert_uint_le(geometry->block_size, 4096);
	ck_assert_uint_le(geometry->mem_align, IOBUF_ALIGN);
	ck_assert(!geometry->device);
	ck_assert_uint_ne(geometry->file_ino, 0);
	leg_test_fill(leg, 0, 4096, IOBUF_MAX, 1);
	leg_test_fill(leg, LEG_DSYNC, 8192, 4096, 2);
	ck_assert_int_eq(leg_test_io(leg, LEG_FLUSH, 0, 0, 0, NULL), 0);
	leg_close(leg);
	leg = open_leg(path, (struct leg_options){ .engine = engines[!_i] });
	leg_test_expect(leg, 0, 4096, 0);
	leg_test_expect(leg, 4096, 4096, 1);
	leg_test_expect(leg, 8192, 4096, 2);
	leg_test_expect(leg, 12288, IOBUF_MAX - 8192, 1);
	leg_close(leg);
	leg_test_unlink(path);
}
END_TEST

START_TEST(more_requests_than_the_ring_holds_only_queue)
{
	enum { COUNT = 1500 };
	static struct leg_test_request requests[COUNT];
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = engines[_i] });
	unsigned char *data = leg_test_buffer(COUNT * 4096, 0);
	struct leg_counters counters;

	for (int i = 0; i < COUNT; i++) {
		memset(data + i * 4096, i, 4096);
		leg_test_start(leg, &requests[i], LEG_WRITE, 0, (uint64_t)i * 4096, 4096, data + i * 4096);
	}
	for (int i = 0; i < COUNT; i++)
		ck_assert_int_eq(leg_test_wait(&requests[i]), 0);
	for (int i = 0; i < COUNT; i += 7)
		leg_test_expect(leg, (uint64_t)i * 4096, 4096, i & 255);
	leg_counters(leg, &counters);
	ck_assert_uint_eq(counters.ops[LEG_WRITE], COUNT);
	ck_assert_uint_eq(counters.errors[LEG_OK], counters.ops[LEG_WRITE] + counters.ops[LEG_READ]);
	ck_assert_uint_eq(counters.in_flight, 0);
	free(data);
	leg_close(leg);
	leg_test_unlink(path);
}
END_TEST

/* Submits the next request from inside the completion of the one before. */
struct chain {
	struct leg_test_request end;
	int left;
};

static void chain_done(struct leg_io *io)
{
	struct chain *chain = io->context;

	if (!io->error && chain->left--) {
		io->offset += io->length;
		if (!leg_submit(io->leg, io))
			return;
	}
	chain->end.done++;
}

START_TEST(a_completion_may_submit)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = engines[_i] });
	unsigned char *data = leg_test_buffer(4096, 9);
	struct chain chain = { .left = 20 };

	chain.end.io = (struct leg_io){ .op = LEG_WRITE, .length = 4096, .data = data, .done = chain_done,
					.context = &chain };
	ck_assert_int_eq(leg_submit(leg, &chain.end.io), 0);
	ck_assert_int_eq(leg_test_wait(&chain.end), 0);
	leg_test_expect(leg, 0, 21 * 4096, 9);
	free(data);
	leg_close(leg);
	leg_test_unlink(path);
}
END_TEST

START_TEST(a_discard_makes_a_hole)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = engines[_i] });
	struct stat before, after;

	if (leg_geometry(leg)->discard) {
		leg_test_fill(leg, LEG_DSYNC, 0, IOBUF_MAX, 4);
		ck_assert_int_eq(stat(path, &before), 0);
		ck_assert_int_eq(leg_test_io(leg, LEG_DISCARD, 0, 0, IOBUF_MAX / 2, NULL), 0);
		ck_assert_int_eq(stat(path, &after), 0);
		ck_assert_int_lt(after.st_blocks, before.st_blocks);
		ck_assert_int_eq(after.st_size, IMAGE_SIZE);
		leg_test_expect(leg, IOBUF_MAX / 2, IOBUF_MAX / 2, 4);
	}
	leg_close(leg);
	leg_test_unlink(path);
}
END_TEST

START_TEST(beyond_the_end_is_gone_and_does_not_grow_the_image)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = engines[_i] });
	unsigned char *data = leg_test_buffer(8192, 1);
	struct leg_test_request request;
	struct stat status;

	ck_assert_int_eq(leg_test_io(leg, LEG_WRITE, 0, IMAGE_SIZE - 4096, 8192, data), -ENXIO);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, IMAGE_SIZE, 4096, data), -ENXIO);
	ck_assert_int_eq(stat(path, &status), 0);
	ck_assert_int_eq(status.st_size, IMAGE_SIZE);
	/* Shrunk while open: a read across the new end is short, and says how far it came. */
	ck_assert_int_eq(truncate(path, IMAGE_SIZE / 2), 0);
	leg_test_start(leg, &request, LEG_READ, 0, IMAGE_SIZE / 2 - 4096, 8192, data);
	ck_assert_int_eq(leg_test_wait(&request), -ENXIO);
	ck_assert_uint_eq(request.io.bytes, 4096);
	ck_assert_int_eq(leg_refresh(leg), 0);
	ck_assert_uint_eq(leg_geometry(leg)->size_bytes, IMAGE_SIZE / 2);
	free(data);
	leg_close(leg);
	leg_test_unlink(path);
}
END_TEST

START_TEST(a_look_tells_whether_the_path_still_names_the_image)
{
	char *path = leg_test_image(IMAGE_SIZE), *other = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = engines[_i] });
	struct leg_counters counters;

	ck_assert_int_eq(leg_test_io(leg, LEG_LOOK, 0, 0, 0, NULL), 0);
	ck_assert_int_eq(rename(path, other), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_LOOK, 0, 0, 0, NULL), -ESTALE);
	ck_assert_int_eq(rename(other, path), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_LOOK, 0, 0, 0, NULL), 0);
	leg_test_unlink(path);
	ck_assert_int_eq(leg_test_io(leg, LEG_LOOK, 0, 0, 0, NULL), -ENOENT);
	path = leg_test_image(IMAGE_SIZE);
	ck_assert_int_eq(rename(path, leg_path(leg)), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_LOOK, 0, 0, 0, NULL), -ENOENT);
	/* It is no error of the leg's. */
	leg_counters(leg, &counters);
	ck_assert_uint_eq(counters.ops[LEG_LOOK], 5);
	ck_assert_uint_eq(counters.errors[LEG_MEDIA] + counters.errors[LEG_GONE] + counters.errors[LEG_REQUEST], 0);
	leg_test_fill(leg, LEG_DSYNC, 0, 4096, 1);
	leg_test_expect(leg, 0, 4096, 1);
	unlink(leg_path(leg));
	leg_close(leg);
	free(path);
	free(other);
}
END_TEST

/* A limit of this process stands for a filesystem that has room for a part of it. */
START_TEST(what_stood_in_the_way_of_a_short_write_is_told)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = engines[_i] });
	unsigned char *data = leg_test_buffer(16384, 1);
	struct leg_test_request request;
	struct rlimit limit, all;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &all), 0);
	limit = (struct rlimit){ .rlim_cur = IMAGE_SIZE / 2, .rlim_max = all.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	leg_test_start(leg, &request, LEG_WRITE, LEG_DSYNC, IMAGE_SIZE / 2 - 4096, 16384, data);
	ck_assert_int_eq(leg_test_wait(&request), -EFBIG);
	ck_assert_uint_eq(request.io.bytes, 4096);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &all), 0);
	free(data);
	leg_close(leg);
	leg_test_unlink(path);
}
END_TEST

START_TEST(a_filesystem_without_direct_io_gets_threads)
{
	char path[] = "/dev/shm/mirrorfs-leg-XXXXXX";
	int fd = mkstemp(path);
	struct leg *leg;

	if (fd < 0) {
		fprintf(stderr, "skipped: /dev/shm cannot be written\n");
		return;
	}
	ck_assert_int_eq(ftruncate(fd, IMAGE_SIZE), 0);
	close(fd);
	leg = open_leg(path, (struct leg_options){ .engine = LEG_ENGINE_AUTO });
	ck_assert_str_eq(leg_engine_name(leg), leg_geometry(leg)->direct ? "uring" : "threads");
	leg_test_fill(leg, LEG_DSYNC, 4096, 4096, 3);
	leg_test_expect(leg, 4096, 4096, 3);
	leg_close(leg);
	unlink(path);
}
END_TEST

/* From here on this process is refused io_uring, as in many containers. */
static bool refuse_io_uring(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

START_TEST(where_io_uring_is_refused_threads_serve)
{
	char *path = leg_test_image(IMAGE_SIZE);
	int status;
	pid_t child = fork();

	if (!child) {
		struct leg_options uring = { .engine = LEG_ENGINE_URING };
		struct error error;
		struct leg *leg;

		if (!refuse_io_uring())
			_exit(77);
		leg = open_leg(path, (struct leg_options){ .engine = LEG_ENGINE_AUTO });
		if (strcmp(leg_engine_name(leg), "threads"))
			_exit(1);
		leg_test_fill(leg, LEG_DSYNC, 0, 4096, 1);
		leg_test_expect(leg, 0, 4096, 1);
		leg_close(leg);
		if (open_error(path, uring, &error) != -EPERM || !strstr(error.text, "engine=threads"))
			_exit(2);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		fprintf(stderr, "skipped: no system call filter can be set here\n");
	else
		ck_assert_int_eq(WEXITSTATUS(status), 0);
	leg_test_unlink(path);
}
END_TEST

START_TEST(a_second_writer_is_refused_and_the_first_one_is_named)
{
	char *path = leg_test_image(IMAGE_SIZE), expected[64];
	struct leg *leg = open_leg(path, (struct leg_options){ .engine = engines[_i] });
	struct error error;

	snprintf(expected, sizeof(expected), "process %d (", getpid());
	ck_assert_int_eq(open_error(path, (struct leg_options){ 0 }, &error), -EBUSY);
	ck_assert_msg(strstr(error.text, expected), "%s", error.text);
	ck_assert_int_eq(open_error(path, (struct leg_options){ .read_only = true }, &error), -EBUSY);
	ck_assert_int_eq(open_error(path, (struct leg_options){ .shared = true }, &error), 0);
	leg_close(leg);
	ck_assert_int_eq(open_error(path, (struct leg_options){ 0 }, &error), 0);
	leg_test_unlink(path);
}
END_TEST

START_TEST(readers_share_an_image_and_cannot_write)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct leg *leg = open_leg(path, (struct leg_options){ .read_only = true, .engine = engines[_i] });
	unsigned char *data = leg_test_buffer(4096, 1);
	struct error error;

	ck_assert_int_eq(leg_test_io(leg, LEG_WRITE, 0, 0, 4096, data), -EROFS);
	ck_assert_int_eq(leg_test_io(leg, LEG_DISCARD, 0, 0, 4096, NULL), -EROFS);
	leg_test_expect(leg, 0, 4096, 0);
	ck_assert_int_eq(open_error(path, (struct leg_options){ .read_only = true }, &error), 0);
	ck_assert_int_eq(open_error(path, (struct leg_options){ 0 }, &error), -EBUSY);
	leg_close(leg);
	leg = open_leg(path, (struct leg_options){ .shared = true });
	ck_assert_int_eq(leg_test_io(leg, LEG_WRITE, 0, 0, 4096, data), -EROFS);
	free(data);
	leg_close(leg);
	leg_test_unlink(path);
}
END_TEST

START_TEST(the_lock_ends_with_its_process_even_by_sigkill)
{
	char *path = leg_test_image(IMAGE_SIZE);
	struct error error;
	int pipe_fds[2], status;
	char byte = 0;
	pid_t child;

	ck_assert_int_eq(pipe(pipe_fds), 0);
	child = fork();
	if (!child) {
		open_leg(path, (struct leg_options){ .engine = engines[_i] });
		if (write(pipe_fds[1], &byte, 1) == 1)
			pause();
		_exit(1);
	}
	ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1);
	ck_assert_int_eq(open_error(path, (struct leg_options){ 0 }, &error), -EBUSY);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	/* The kernel ends a ring after its process: so a moment may pass, but not ever so long. */
	for (int tries = 0; tries < 1000 && open_error(path, (struct leg_options){ 0 }, &error); tries++)
		usleep(10000);
	ck_assert_int_eq(open_error(path, (struct leg_options){ 0 }, &error), 0);
	leg_test_unlink(path);
}
END_TEST

START_TEST(what_is_no_leg_is_refused_by_its_kind)
{
	char *path = leg_test_image(0), fifo[300];
	struct error error;

	snprintf(fifo, sizeof(fifo), "%s.fifo", path);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	ck_assert_int_eq(open_error(fifo, (struct leg_options){ 0 }, &error), -ENOTBLK);
	ck_assert_msg(strstr(error.text, "FIFO"), "%s", error.text);
	ck_assert_int_eq(open_error("/tmp", (struct leg_options){ 0 }, &error), -ENOTBLK);
	ck_assert_int_eq(open_error("/dev/null", (struct leg_options){ 0 }, &error), -ENOTBLK);
	ck_assert_int_eq(open_error("/nonexistent/leg", (struct leg_options){ 0 }, &error), -ENOENT);
	unlink(fifo);
	leg_test_unlink(path);
}
END_TEST

START_TEST(no_descriptor_is_inherited_or_left)
{
	char *path = leg_test_image(IMAGE_SIZE);
	int before = open("/dev/null", O_RDONLY | O_CLOEXEC), after;
	bool ours[64];
	struct leg *leg;

	for (int fd = 0; fd < 64; fd++)
		ours[fd] = fcntl(fd, F_GETFD) < 0;
	for (size_t i = 0; i < 2; i++) {
		leg = open_leg(path, (struct leg_options){ .engine = engines[i] });
		for (int fd = 0; fd < 64; fd++) {
			int flags = fcntl(fd, F_GETFD);

			ck_assert_msg(!ours[fd] || flags < 0 || flags & FD_CLOEXEC, "descriptor %d is inherited", fd);
		}
		leg_close(leg);
	}
	after = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ck_assert(ours[after]);
	for (int fd = 0; fd < 64; fd++)
		ck_assert(fd == after || ours[fd] == (fcntl(fd, F_GETFD) < 0));
	close(after);
	close(before);
	leg_test_unlink(path);
}
END_TEST

/* A loop device on `path`, or NULL. It ends with loop_detach(), and also with a test that fails. */
static int loop_kept = -1;

static char *loop_attach(const char *path)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file = open(path, O_RDWR | O_CLOEXEC), fd, number;
	struct loop_config config = { .fd = (uint32_t)file, .block_size = 512, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	char *device = NULL;

	for (int tries = 0; control >= 0 && !device && tries < 10; tries++) {
		number = ioctl(control, LOOP_CTL_GET_FREE);
		if (number < 0 || asprintf(&device, "/dev/loop%d", number) < 0)
			break;
		fd = open(device, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && !ioctl(fd, LOOP_CONFIGURE, &config)) {
			loop_kept = fd;
			break;
		}
		if (fd >= 0)
			close(fd);
		free(device);
		device = NULL;
	}
	close(control);
	close(file);
	return device;
}

static void loop_detach(char *device)
{
	ck_assert_int_eq(close(loop_kept), 0);
	free(device);
}

START_TEST(a_loop_device_is_a_leg)
{
	char *path = leg_test_image(IMAGE_SIZE), *device = geteuid() ? NULL : loop_attach(path), where[400];
	struct leg_options options = { .engine = engines[_i] };
	const struct leg_geometry *geometry;
	struct error error;
	struct leg *leg;

	if (!device) {
		fprintf(stderr, "skipped: no loop device can be made here\n");
		leg_test_unlink(path);
		return;
	}
	ck_assert(leg_in_use(path, where, sizeof(where)));
	ck_assert_msg(strstr(where, device), "%s", where);
	ck_assert_msg(!leg_in_use(device, where, sizeof(where)), "%s", where);
	leg = open_leg(device, options);
	geometry = leg_geometry(leg);
	ck_assert(geometry->device);
	ck_assert_uint_eq(geometry->size_bytes, IMAGE_SIZE);
	ck_assert_uint_eq(geometry->block_size, 512);
	ck_assert_uint_ne(geometry->device_rdev, 0);
	ck_assert_uint_ne(geometry->disk_rdev, geometry->device_rdev);
	leg_test_fill(leg, LEG_DSYNC, 512, 8192, 5);
	leg_test_expect(leg, 512, 8192, 5);
	if (geometry->discard)
		ck_assert_int_eq(leg_test_io(leg, LEG_DISCARD, 0, 0, 4096, NULL), 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_FLUSH, 0, 0, 0, NULL), 0);
	ck_assert_int_eq(open_error(device, options, &error), -EBUSY);
	leg_close(leg);
	ck_assert_int_eq(open_error(device, options, &error), 0);
	loop_detach(device);
	leg_test_unlink(path);
}
END_TEST

/* A mount has the claim then; here it is the test. */
START_TEST(a_device_that_was_handed_over_is_kept_from_other_legs)
{
	char *path = leg_test_image(IMAGE_SIZE), *device = geteuid() ? NULL : loop_attach(path);
	struct leg_options options = { .engine = engines[_i] }, handed_over = { .engine = engines[_i] };
	struct error error;
	struct leg *leg;
	int claim;

	handed_over.handed_over = true;
	if (!device) {
		fprintf(stderr, "skipped: no loop device can be made here\n");
		leg_test_unlink(path);
		return;
	}
	leg = open_leg(device, options);
	leg_test_fill(leg, LEG_DSYNC, 512, 8192, 5);
	ck_assert_int_lt(open(device, O_RDWR | O_EXCL | O_CLOEXEC), 0);
	ck_assert_int_eq(leg_hand_over(leg, PATIENCE_NS), 0);
	claim = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
	ck_assert_int_ge(claim, 0);
	leg_test_expect(leg, 512, 8192, 5);
	leg_test_fill(leg, LEG_DSYNC, 512, 8192, 6);
	leg_test_expect(leg, 512, 8192, 6);
	ck_assert_int_eq(open_error(device, handed_over, &error), -EBUSY);
	close(claim);
	/* The mount has gone; the leg has not. */
	ck_assert_int_eq(open_error(device, options, &error), -EBUSY);
	leg_close(leg);
	ck_assert_int_eq(open_error(device, options, &error), 0);
	/* So it comes back to a mount that has the claim. */
	claim = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
	leg = open_leg(device, handed_over);
	leg_test_expect(leg, 512, 8192, 6);
	leg_close(leg);
	close(claim);
	/* An image knows no claim. */
	leg = open_leg(path, options);
	ck_assert_int_eq(leg_hand_over(leg, PATIENCE_NS), -ENOTBLK);
	leg_close(leg);
	loop_detach(device);
	leg_test_unlink(path);
}
END_TEST

/* Of the leg on it, the only one that has it open. */
static int descriptor_of(const char *device)
{
	struct stat wanted, st;
	int fd = 0;

	ck_assert_int_eq(stat(device, &wanted), 0);
	while (fstat(fd, &st) || !S_ISBLK(st.st_mode) || st.st_rdev != wanted.st_rdev)
		fd++;
	return fd;
}

static void *end_soon(void *held)
{
	usleep(20000);
	close(*(int *)held);
	return NULL;
}

/* As a request does that is under way, a copy of the descriptor keeps the file before open. */
START_TEST(a_device_is_handed_over_when_what_was_under_way_has_ended)
{
	char *path = leg_test_image(IMAGE_SIZE), *device = geteuid() ? NULL : loop_attach(path);
	struct leg_options options = { .engine = LEG_ENGINE_THREADS };
	pthread_t thread;
	struct leg *leg;
	int held, claim;

	if (!device) {
		fprintf(stderr, "skipped: no loop device can be made here\n");
		leg_test_unlink(path);
		return;
	}
	leg = open_leg(device, options);
	held = fcntl(descriptor_of(device), F_DUPFD_CLOEXEC, 0);
	ck_assert_int_eq(leg_hand_over(leg, 0), -EBUSY);
	close(held);
	leg_close(leg);
	leg = open_leg(device, options);
	held = fcntl(descriptor_of(device), F_DUPFD_CLOEXEC, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, end_soon, &held), 0);
	ck_assert_int_eq(leg_hand_over(leg, PATIENCE_NS), 0);
	claim = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
	ck_assert_int_ge(claim, 0);
	pthread_join(thread, NULL);
	close(claim);
	leg_close(leg);
	loop_detach(device);
	leg_test_unlink(path);
}
END_TEST

Suite *engine_suite(void)
{
	Suite *suite = suite_create("engine");
	TCase *tests = tcase_create("engine");

	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, an_image_keeps_what_was_written, 0, 2);
	tcase_add_loop_test(tests, more_requests_than_the_ring_holds_only_queue, 0, 2);
	tcase_add_loop_test(tests, a_completion_may_submit, 0, 2);
	tcase_add_loop_test(tests, a_discard_makes_a_hole, 0, 2);
	tcase_add_loop_test(tests, beyond_the_end_is_gone_and_does_not_grow_the_image, 0, 2);
	tcase_add_loop_test(tests, a_look_tells_whether_the_path_still_names_the_image, 0, 2);
	tcase_add_loop_test(tests, what_stood_in_the_way_of_a_short_write_is_told, 0, 2);
	tcase_add_test(tests, a_device_is_handed_over_when_what_was_under_way_has_ended);
	tcase_add_test(tests, a_filesystem_without_direct_io_gets_threads);
	tcase_add_test(tests, where_io_uring_is_refused_threads_serve);
	tcase_add_loop_test(tests, a_second_writer_is_refused_and_the_first_one_is_named, 0, 2);
	tcase_add_loop_test(tests, readers_share_an_image_and_cannot_write, 0, 2);
	tcase_add_loop_test(tests, the_lock_ends_with_its_process_even_by_sigkill, 0, 2);
	tcase_add_test(tests, what_is_no_leg_is_refused_by_its_kind);
	tcase_add_test(tests, no_descriptor_is_inherited_or_left);
	tcase_add_loop_test(tests, a_loop_device_is_a_leg, 0, 2);
	tcase_add_loop_test(tests, a_device_that_was_handed_over_is_kept_from_other_legs, 0, 2);
	suite_add_tcase(suite, tests);
	return suite;
}
