/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "leg_test.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

unsigned char *leg_test_buffer(size_t length, int byte)
{
	unsigned char *buffer = aligned_alloc(4096, (length + 4095) / 4096 * 4096);

	ck_assert_ptr_nonnull(buffer);
	memset(buffer, byte, length);
	return buffer;
}

int leg_test_io(struct leg *leg, enum leg_op op, unsigned int flags, uint64_t offset, size_t length, void *data)
{
	struct leg_io io = { .op = op, .flags = flags, .offset = offset, .length = length, .data = data };

	return leg_submit_wait(leg, &io);
}

void leg_test_fill(struct leg *leg, unsigned int flags, uint64_t offset, size_t length, int byte)
{
	unsigned char *buffer = leg_test_buffer(length, byte);

	ck_assert_int_eq(leg_test_io(leg, LEG_WRITE, flags, offset, length, buffer), 0);
	free(buffer);
}

void leg_test_all(const unsigned char *data, size_t length, int byte)
{
	size_t i = 0;

	/* One assertion: Check writes each to a file, and under a sanitizer reads that in the square of the time. */
	while (i < length && data[i] == (unsigned char)byte)
		i++;
	ck_assert_msg(i == length, "byte %zu is %d, not %d", i, i < length ? data[i] : 0, byte);
}

void leg_test_expect(struct leg *leg, uint64_t offset, size_t length, int byte)
{
	unsigned char *buffer = leg_test_buffer(length, ~byte);

	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, offset, length, buffer), 0);
	leg_test_all(buffer, length, byte);
	free(buffer);
}

struct leg *leg_test_memory(void)
{
	struct leg_memory_options options = { .size_bytes = 1 << 20, .block_size = 512, .name = "test" };
	struct leg *leg;

	ck_assert_int_eq(leg_memory_open(&options, &leg), 0);
	return leg;
}

char *leg_test_image(size_t size)
{
	const char *folder = getenv("TMPDIR");
	char *path;
	int fd;

	ck_assert_int_gt(asprintf(&path, "%s/mirrorfs-leg-XXXXXX", folder ? folder : "/tmp"), 0);
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
	return path;
}

void leg_test_unlink(char *path)
{
	unlink(path);
	free(path);
}

static void request_done(struct leg_io *io)
{
	struct leg_test_request *request = io->context;

	request->done++;
}

void leg_test_start(struct leg *leg, struct leg_test_request *request, enum leg_op op, unsigned int flags,
		    uint64_t offset, size_t length, void *data)
{
	request->io = (struct leg_io){ .op = op, .flags = flags, .offset = offset, .length = length, .data = data,
				       .done = request_done, .context = request };
	request->done = 0;
	ck_assert_int_eq(leg_submit(leg, &request->io), 0);
}

int leg_test_wait(struct leg_test_request *request)
{
	while (!request->done)
		sched_yield();
	ck_assert_int_eq(request->done, 1);
	return request->io.error;
}

START_TEST(an_empty_request_is_refused_and_counted)
{
	static const enum leg_op ops[] = { LEG_READ, LEG_WRITE, LEG_DISCARD };
	struct leg *leg = leg_test_memory();
	unsigned char *buffer = leg_test_buffer(4096, 0);
	struct leg_counters counters;

	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(leg_test_io(leg, ops[i], 0, 4096, 0, buffer), -EINVAL);
	leg_counters(leg, &counters);
	ck_assert_uint_eq(counters.empty_refused, 3);
	ck_assert_uint_eq(counters.ops[LEG_READ] + counters.ops[LEG_WRITE] + counters.ops[LEG_DISCARD], 0);
	ck_assert_int_eq(leg_test_io(leg, LEG_FLUSH, 0, 0, 0, NULL), 0);
	free(buffer);
	leg_close(leg);
}
END_TEST

START_TEST(a_misaligned_request_is_refused_and_counted)
{
	struct leg *leg = leg_test_memory();
	unsigned char *buffer = leg_test_buffer(8192, 0);
	struct leg_counters counters;

	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 1, 512, buffer), -EINVAL);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 0, 511, buffer), -EINVAL);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 0, 512, buffer + 4), -EINVAL);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 0, 2 * IOBUF_MAX, buffer), -EINVAL);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, UINT64_C(1) << 63, 512, buffer), -ERANGE);
	leg_counters(leg, &counters);
	ck_assert_uint_eq(counters.unaligned_refused, 4);
	ck_assert_uint_eq(counters.in_flight, 0);
	free(buffer);
	leg_close(leg);
}
END_TEST

START_TEST(an_errno_means_one_thing)
{
	static const struct {
		int error;
		enum leg_verdict read, write, flush;
	} table[] = {
		{ 0, LEG_OK, LEG_OK, LEG_OK },
		{ -EINVAL, LEG_REQUEST, LEG_REQUEST, LEG_REQUEST },
		{ -EOPNOTSUPP, LEG_REQUEST, LEG_REQUEST, LEG_REQUEST },
		{ -EAGAIN, LEG_REQUEST, LEG_REQUEST, LEG_REQUEST },
		{ -ENOMEM, LEG_REQUEST, LEG_REQUEST, LEG_REQUEST },
		{ -EINTR, LEG_REQUEST, LEG_REQUEST, LEG_REQUEST },
		{ -EIO, LEG_MEDIA, LEG_MEDIA, LEG_MEDIA },
		{ -ENODATA, LEG_MEDIA, LEG_MEDIA, LEG_MEDIA },
		{ -EILSEQ, LEG_MEDIA, LEG_MEDIA, LEG_MEDIA },
		{ -ENODEV, LEG_GONE, LEG_GONE, LEG_GONE },
		{ -ENXIO, LEG_GONE, LEG_GONE, LEG_GONE },
		{ -ENOLINK, LEG_GONE, LEG_GONE, LEG_GONE },
		{ -ENOTCONN, LEG_GONE, LEG_GONE, LEG_GONE },
		{ -ETIMEDOUT, LEG_GONE, LEG_GONE, LEG_GONE },
		{ -ENOSPC, LEG_MEDIA, LEG_SPACE, LEG_MEDIA },
		{ -EDQUOT, LEG_MEDIA, LEG_SPACE, LEG_MEDIA },
		{ -EROFS, LEG_MEDIA, LEG_SPACE, LEG_MEDIA },
		{ -EBADF, LEG_MEDIA, LEG_MEDIA, LEG_MEDIA },
		{ -9999, LEG_MEDIA, LEG_MEDIA, LEG_MEDIA },
		{ EIO, LEG_MEDIA, LEG_MEDIA, LEG_MEDIA },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		ck_assert_int_eq(leg_classify(LEG_READ, table[i].error), table[i].read);
		ck_assert_int_eq(leg_classify(LEG_WRITE, table[i].error), table[i].write);
		ck_assert_int_eq(leg_classify(LEG_DISCARD, table[i].error), table[i].write);
		ck_assert_int_eq(leg_classify(LEG_FLUSH, table[i].error), table[i].flush);
	}
	ck_assert_str_eq(leg_verdict_name(LEG_GONE), "gone");
}
END_TEST

START_TEST(completions_are_counted_by_verdict)
{
	struct leg *leg = leg_test_memory();
	unsigned char *buffer = leg_test_buffer(4096, 7);
	struct leg_counters counters;

	leg_test_fill(leg, 0, 0, 4096, 7);
	leg_test_expect(leg, 0, 4096, 7);
	ck_assert_int_eq(leg_test_io(leg, LEG_READ, 0, 1 << 20, 4096, buffer), -ENXIO);
	leg_counters(leg, &counters);
	ck_assert_uint_eq(counters.ops[LEG_READ], 2);
	ck_assert_uint_eq(counters.bytes[LEG_READ], 4096);
	ck_assert_uint_eq(counters.bytes[LEG_WRITE], 4096);
	ck_assert_uint_eq(counters.errors[LEG_OK], 2);
	ck_assert_uint_eq(counters.errors[LEG_GONE], 1);
	ck_assert_uint_eq(counters.in_flight, 0);
	free(buffer);
	leg_close(leg);
}
END_TEST

Suite *leg_suite(void)
{
	Suite *suite = suite_create("leg");
	TCase *tests = tcase_create("door");

	tcase_add_test(tests, an_empty_request_is_refused_and_counted);
	tcase_add_test(tests, a_misaligned_request_is_refused_and_counted);
	tcase_add_test(tests, an_errno_means_one_thing);
	tcase_add_test(tests, completions_are_counted_by_verdict);
	suite_add_tcase(suite, tests);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(leg_suite());
	int failed;

	srunner_add_suite(runner, engine_suite());
	srunner_add_suite(runner, fault_suite());
	srunner_add_suite(runner, memory_suite());
	srunner_add_suite(runner, probe_suite());
	srunner_add_suite(runner, record_suite());
	srunner_add_suite(runner, transport_suite());
	srunner_add_suite(runner, wait_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
