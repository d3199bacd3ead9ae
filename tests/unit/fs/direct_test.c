/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>

#define LONG (1u << 20)

static struct cache_stats stats_now(void)
{
	struct cache_stats stats;

	cache_stats(cache, &stats);
	return stats;
}

static size_t data_pages(void)
{
	return stats_now().class[CACHE_DATA].pages;
}

static void put_past(uint64_t file, uint64_t offset, size_t length, unsigned int seed, unsigned int flags)
{
	unsigned char *data = pattern_of(offset, length, seed);

	ck_assert_int_eq(fs_write(fs, file, data, length, offset, flags), (ssize_t)length);
	free(data);
}

START_TEST(a_long_read_leaves_nothing_in_the_cache_unless_it_comes_again)
{
	uint64_t file = make_file(ROOT, "file"), passed;

	put_pattern(file, 0, LONG, 1);
	sync_file(file);
	cache_drop_clean(cache);
	passed = stats_now().class[CACHE_DATA].passed;
	expect_pattern(file, 0, LONG, 1);
	ck_assert_uint_eq(stats_now().class[CACHE_DATA].passed, passed + LONG / FS_BLOCK);
	ck_assert_uint_eq(data_pages(), 0);
	expect_pattern(file, 0, LONG, 1);
	ck_assert_uint_eq(stats_now().class[CACHE_DATA].passed, passed + LONG / FS_BLOCK);
	ck_assert_uint_eq(data_pages(), LONG / FS_BLOCK);
}
END_TEST

/* One that is cut off by the end of the file is not two. */
START_TEST(a_short_read_goes_past_the_cache_if_that_is_wanted)
{
	uint64_t file = make_file(ROOT, "file"), reads;
	unsigned char *data = pattern_of(0, 64 * FS_BLOCK + 100, 1), now[4 * FS_BLOCK];

	put_pattern(file, 0, 64 * FS_BLOCK + 100, 1);
	sync_file(file);
	for (unsigned int flags = 0; flags <= FS_READ_PAST; flags += FS_READ_PAST) {
		cache_drop_clean(cache);
		ck_assert_int_eq(fs_read_as(fs, file, now, FS_BLOCK, 7 * FS_BLOCK, flags), FS_BLOCK);
		ck_assert_mem_eq(now, data + 7 * FS_BLOCK, FS_BLOCK);
		ck_assert_uint_eq(data_pages(), flags ? 0 : 1);
		ck_assert_int_eq(fs_read_as(fs, file, now, FS_BLOCK, 7 * FS_BLOCK, flags), FS_BLOCK);
		ck_assert_uint_eq(data_pages(), 1);
		reads = volume_reads(0) + volume_reads(1);
		ck_assert_int_eq(fs_read_as(fs, file, now, sizeof(now), 62 * FS_BLOCK, flags), 2 * FS_BLOCK + 100);
		ck_assert_mem_eq(now, data + 62 * FS_BLOCK, 2 * FS_BLOCK + 100);
		ck_assert_uint_eq(volume_reads(0) + volume_reads(1), reads + 1);
	}
	free(data);
}
END_TEST

START_TEST(a_read_past_the_cache_has_the_pages_that_are_newer)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, LONG + 100, 1);
	set_size(file, 3 * LONG + 100); /* and a hole */
	sync_file(file);
	cache_drop_clean(cache);
	put_pattern(file, 40 * FS_BLOCK, 5 * FS_BLOCK, 2);
	put_pattern(file, 100 * FS_BLOCK + 1, 1, 2);
	for (int i = 0; i < 2; i++) {
		unsigned char *all = malloc(3 * LONG + 100), *old = pattern_of(0, LONG + 100, 1);
		unsigned char *new = pattern_of(0, LONG + 100, 2), *hole = calloc(1, 2 * LONG);

		memcpy(old + 40 * FS_BLOCK, new + 40 * FS_BLOCK, 5 * FS_BLOCK);
		old[100 * FS_BLOCK + 1] = new[100 * FS_BLOCK + 1];
		ck_assert_int_eq(fs_read(fs, file, all, 3 * LONG + 100, 0), 3 * LONG + 100);
		ck_assert_mem_eq(all, old, LONG + 100);
		ck_assert_mem_eq(all + LONG + 100, hole, 2 * LONG);
		free(all);
		free(hole);
		free(old);
		free(new);
	}
}
END_TEST

START_TEST(a_write_past_the_cache_is_what_is_read_from_then_on)
{
	uint64_t file = make_file(ROOT, "file");

	put_pattern(file, 0, LONG, 1);
	sync_file(file);
	expect_pattern(file, 0, LONG, 1); /* all of it is in the cache */
	put_past(file, 64 * FS_BLOCK, LONG / 2, 2, FS_WRITE_THROUGH);
	expect_pattern(file, 0, 64 * FS_BLOCK, 1);
	expect_pattern(file, 64 * FS_BLOCK, LONG / 2, 2);
	expect_pattern(file, 64 * FS_BLOCK + LONG / 2, LONG / 2 - 64 * FS_BLOCK, 1);
	ck_assert_uint_eq(stats_now().class[CACHE_DATA].dirty, 0);
	put_past(file, 2 * LONG, LONG, 3, FS_WRITE_THROUGH | FS_WRITE_SYNC);
	volume_crash();
	expect_size(file, 3 * LONG);
	expect_pattern(file, 64 * FS_BLOCK, LONG / 2, 2);
	expect_zeros(file, LONG, LONG);
	expect_pattern(file, 2 * LONG, LONG, 3);
}
END_TEST

START_TEST(a_write_past_the_cache_copies_nothing_into_it)
{
	uint64_t file = make_file(ROOT, "file");

	put_past(file, 0, 8 * LONG, 1, FS_WRITE_THROUGH);
	ck_assert_uint_eq(data_pages(), 0);
	expect_size(file, 8 * LONG);
	expect_pattern(file, 0, 8 * LONG, 1);
	ck_assert_uint_eq((uint64_t)attr_of(file).st.st_blocks, 8 * LONG / 512);
	volume_remount();
	expect_pattern(file, 0, 8 * LONG, 1);
}
END_TEST

static uint64_t address_of(uint64_t file, uint64_t block)
{
	struct meta_mapping mapping;

	ck_assert_int_eq(meta_map(meta, file, block, 1, &mapping), 0);
	return mapping.address;
}

/* Whoever brings it there, the writer of the cache or who asks for it: on the legs it lies as it came. */
START_TEST(a_long_stream_of_writes_lies_in_order)
{
	uint64_t file = make_file(ROOT, "file");

	for (unsigned int i = 0; i < 12; i++)
		put_pattern(file, (uint64_t)i * LONG, LONG, 1);
	sync_file(file);
	for (uint64_t block = 1; block < 12 * LONG / FS_BLOCK; block++)
		ck_assert_uint_eq(address_of(file, block), address_of(file, block - 1) + 1);
}
END_TEST

START_TEST(a_long_write_goes_to_the_legs_in_pieces)
{
	uint64_t file = make_file(ROOT, "file"), before[2];

	for (int leg = 0; leg < 2; leg++)
		before[leg] = volume_writes(leg);
	put_past(file, 0, LONG, 1, FS_WRITE_THROUGH);
	for (int leg = 0; leg < 2; leg++)
		ck_assert_uint_eq(volume_writes(leg) - before[leg], LONG / FS_BLOCK / LONG_BLOCKS);
	ck_assert_uint_eq(address_of(file, LONG / FS_BLOCK - 1), address_of(file, 0) + LONG / FS_BLOCK - 1);
}
END_TEST

/* As when a transaction has room for the head of a write only. */
START_TEST(what_was_copied_before_its_turn_is_written_in_parts)
{
	const size_t parts[] = { 100, 1, 150, 5 };
	uint64_t file = make_file(ROOT, "file"), block = 0;
	unsigned char *data = pattern_of(0, LONG, 2);
	struct writeout_blocks blocks = { .bytes = data };
	struct inode *inode;
	struct writeout wo;

	put_pattern(file, 0, LONG, 1);
	sync_file(file);
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	cache_drop_range(&inode->space, 0, UINT64_MAX);
	direct_copy_early(fs, &blocks, LONG_BLOCKS - 1);
	ck_assert_ptr_null(blocks.buf);
	direct_copy_early(fs, &blocks, LONG / FS_BLOCK);
	ck_assert_ptr_nonnull(blocks.buf);
	free(data);
	ck_assert_int_eq(fs_promise(fs, LONG / FS_BLOCK), 0);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); block += parts[i++]) {
		mutex_lock(&inode->log);
		ck_assert_int_eq(writeout_begin(&wo, fs), 0);
		ck_assert_int_eq(writeout_add_blocks(&wo, inode, block, &blocks, block, parts[i], 0), (int)parts[i]);
		ck_assert_int_eq(writeout_commit(&wo), 0);
		mutex_unlock(&inode->log);
	}
	iobuf_put(blocks.buf);
	inode_put(inode);
	expect_pattern(file, 0, LONG, 2);
	volume_remount();
	expect_pattern(file, 0, LONG, 2);
}
END_TEST

/* Who has the buffers may be waiting for what the transaction holds. */
START_TEST(a_transaction_that_has_something_waits_for_no_buffer)
{
	uint64_t file = make_file(ROOT, "file");
	unsigned char *data = pattern_of(0, LONG, 1);
	struct writeout_blocks early = { .bytes = data }, late = { .bytes = data };
	struct iobuf *taken[64];
	size_t count = 0;
	struct inode *inode;
	struct writeout wo;

	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	direct_copy_early(fs, &early, LONG_BLOCKS);
	ck_assert_ptr_nonnull(early.buf);
	while (count < 64 && (taken[count] = iobuf_try_get_kept(mirror_pool(fs->mirror), IOBUF_MAX)))
		count++;
	ck_assert_uint_lt(count, 64);
	ck_assert_int_eq(fs_promise(fs, 2 * LONG_BLOCKS), 0);
	mutex_lock(&inode->log);
	ck_assert_int_eq(writeout_begin(&wo, fs), 0);
	ck_assert_int_eq(writeout_add_blocks(&wo, inode, 0, &early, 0, LONG_BLOCKS, LONG / FS_BLOCK), LONG_BLOCKS);
	ck_assert_int_eq(writeout_add_blocks(&wo, inode, LONG_BLOCKS, &late, LONG_BLOCKS, LONG_BLOCKS, LONG / FS_BLOCK),
			 0);
	ck_assert_int_eq(writeout_commit(&wo), 0);
	mutex_unlock(&inode->log);
	meta_unpromise(meta, LONG_BLOCKS);
	while (count)
		iobuf_put(taken[--count]);
	iobuf_put(early.buf);
	inode_put(inode);
	expect_pattern(file, 0, LONG_BLOCKS * FS_BLOCK, 1);
	free(data);
}
END_TEST

struct past_writer {
	uint64_t file;
	struct thread thread;
};

static void past_run(void *arg)
{
	put_past(((struct past_writer *)arg)->file, 0, LONG, 2, FS_WRITE_THROUGH);
}

/* Somebody writes an old page out while a long write comes: what he brings late must not win. */
START_TEST(a_page_on_its_way_does_not_undo_a_write_past_the_cache)
{
	uint64_t file = make_file(ROOT, "file"), address;
	struct past_writer writer = { .file = file };
	struct meta_mapping mapping;
	struct cache_page *page;
	struct inode *inode;
	struct writeout wo;

	put_pattern(file, 0, LONG, 1);
	sync_file(file);
	put_pattern(file, 0, 100, 3);
	ck_assert_int_eq(meta_map(meta, file, 0, 1, &mapping), 0);
	address = mapping.address;
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	ck_assert_int_eq(filepage_get(inode, 0, &page), 0);
	ck_assert(cache_write_begin(page));
	ck_assert_int_eq(thread_start(&writer.thread, "writer", past_run, &writer), 0);
	/* Until it has put its bytes into the page, or, wrongly, into the tree. */
	while (!(__atomic_load_n(&page->state, __ATOMIC_SEQ_CST) & CACHE_DIRTY) && mapping.address == address) {
		sched_yield();
		ck_assert_int_eq(meta_map(meta, file, 0, 1, &mapping), 0);
	}
	mutex_lock(&inode->log);
	mutex_lock(&inode->state);
	if (filepage_mark(page) != PAGE_PROMISED)
		filepage_set_mark(inode, page, PAGE_PROMISED);
	mutex_unlock(&inode->state);
	ck_assert_int_eq(writeout_begin(&wo, fs), 0);
	ck_assert_int_eq(writeout_add(&wo, inode, &page, 1, 1), 1);
	ck_assert_int_eq(writeout_commit(&wo), 0);
	mutex_unlock(&inode->log);
	cache_written(page, 0);
	cache_put(page);
	thread_join(&writer.thread);
	inode_put(inode);
	expect_pattern(file, 0, LONG, 2);
	volume_remount();
	expect_pattern(file, 0, LONG, 2);
}
END_TEST

START_TEST(a_write_past_the_cache_that_fails_loses_nothing)
{
	uint64_t file = make_file(ROOT, "file");
	unsigned char *data = pattern_of(0, LONG, 2);

	put_pattern(file, 0, LONG, 1);
	sync_file(file);
	put_pattern(file, 0, 100, 3);
	volume_fill();
	ck_assert_int_eq(fs_write(fs, file, data, LONG, 0, FS_WRITE_THROUGH), -ENOSPC);
	expect_pattern(file, 0, 100, 3);
	expect_pattern(file, 100, LONG - 100, 1);
	ck_assert_int_eq(fs_write(fs, file, data, LONG / 2, LONG / 2, FS_WRITE_THROUGH), -ENOSPC);
	volume_remount();
	expect_pattern(file, 0, 100, 3);
	expect_pattern(file, 100, LONG - 100, 1);
	free(data);
}
END_TEST

/* ---- several at a time ---- */

#define ROUNDS 60
#define AREA (64 * FS_BLOCK)

struct reader {
	uint64_t file;
	struct thread thread;
	atomic_uint *begun, *done; /* rounds of the writer */
	size_t length;
	bool wrong;
};

/* Each block is of one round, and of none that had been replaced before the read began. */
static void reader_run(void *arg)
{
	struct reader *reader = arg;
	unsigned char *data = malloc(AREA);
	unsigned int least;

	while ((least = atomic_load(reader->done)) < ROUNDS && !reader->wrong) {
		for (size_t at = 0; at < AREA; at += reader->length)
			reader->wrong |= fs_read(fs, reader->file, data + at, reader->length, at) !=
					 (ssize_t)reader->length;
		for (size_t at = 0; at < AREA; at++) {
			unsigned int round = data[at];

			reader->wrong |= round != data[at & ~(size_t)(FS_BLOCK - 1)] || round < least ||
					 round > atomic_load(reader->begun);
		}
	}
	free(data);
}

START_TEST(readers_see_each_block_as_it_was_or_as_it_becomes)
{
	atomic_uint begun = 0, done = 0;
	uint64_t file = make_file(ROOT, "file");
	struct reader readers[] = { { .length = AREA }, { .length = FS_BLOCK }, { .length = AREA / 2 } };
	unsigned char *data = calloc(1, AREA);

	ck_assert_int_eq(fs_write(fs, file, data, AREA, 0, FS_WRITE_THROUGH), AREA);
	for (int i = 0; i < 3; i++) {
		readers[i].file = file;
		readers[i].begun = &begun;
		readers[i].done = &done;
		ck_assert_int_eq(thread_start(&readers[i].thread, "reader", reader_run, &readers[i]), 0);
	}
	for (unsigned int round = 1; round <= ROUNDS; round++) {
		memset(data, (int)round, AREA);
		atomic_store(&begun, round);
		ck_assert_int_eq(fs_write(fs, file, data, AREA, 0, round % 4 ? FS_WRITE_THROUGH : 0), AREA);
		atomic_store(&done, round);
	}
	for (int i = 0; i < 3; i++) {
		thread_join(&readers[i].thread);
		ck_assert(!readers[i].wrong);
	}
	free(data);
}
END_TEST

/* ---- writers that come together ---- */

#define WRITERS 8u

struct turn_writer {
	uint64_t file, offset;
	size_t length;
	unsigned int seed;
	ssize_t answer;
	bool stale; /* it was answered, and then read something else */
	struct thread thread;
};

static void turn_run(void *arg)
{
	struct turn_writer *writer = arg;
	unsigned char *data = pattern_of(writer->offset, writer->length, writer->seed), *now = malloc(writer->length);

	writer->answer = fs_write(fs, writer->file, data, writer->length, writer->offset, FS_WRITE_THROUGH);
	writer->stale = fs_read(fs, writer->file, now, writer->length, writer->offset) != (ssize_t)writer->length ||
			memcmp(now, data, writer->length);
	free(data);
	free(now);
}

static unsigned int turns_of(struct inode *inode, bool *run)
{
	struct direct_turn *turn;
	unsigned int count = 0;

	mutex_lock(&inode->state);
	*run = inode->turn_runs;
	TAILQ_FOREACH (turn, &inode->turns, link)
		count++;
	mutex_unlock(&inode->state);
	return count;
}

/* All of them wait, as if somebody were writing. Then they may go on, and are given time to do so too early. */
static void turns_together(struct inode *inode, struct turn_writer *writers, unsigned int count)
{
	bool run;

	mutex_lock(&inode->state);
	inode->turn_runs = true;
	mutex_unlock(&inode->state);
	for (unsigned int i = 0; i < count; i++) {
		ck_assert_int_eq(thread_start(&writers[i].thread, "writer", turn_run, &writers[i]), 0);
		while (turns_of(inode, &run) <= i)
			sched_yield();
	}
	mutex_lock(&inode->log);
	mutex_lock(&inode->state);
	inode->turn_runs = false;
	cond_signal(&TAILQ_FIRST(&inode->turns)->moved);
	mutex_unlock(&inode->state);
	do
		sched_yield();
	while (turns_of(inode, &run) && !run);
	for (int i = 0; i < 200; i++)
		sched_yield();
	mutex_unlock(&inode->log);
	for (unsigned int i = 0; i < count; i++)
		thread_join(&writers[i].thread);
}

/* Behind the file there is room for one block here and there, but not for all of them. */
START_TEST(writes_that_wait_together_are_one_write_of_each_leg)
{
	uint64_t file = make_file(ROOT, "file"), holes = make_file(ROOT, "holes"), written[2];
	struct turn_writer writers[WRITERS];
	struct inode *inode;

	put_pattern(file, 0, LONG, 1);
	sync_file(file);
	put_pattern(holes, 0, LONG, 1);
	sync_file(holes);
	for (unsigned int i = 0; i < LONG; i += 2 * FS_BLOCK)
		ck_assert_int_eq(fs_fallocate(fs, holes, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i, FS_BLOCK), 0);
	volume_remount();
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	for (unsigned int i = 0; i < WRITERS; i++)
		writers[i] = (struct turn_writer){ .file = file, .offset = (i * 37 + 5) % 199 * FS_BLOCK,
						   .length = FS_BLOCK, .seed = 2 + i };
	for (int leg = 0; leg < 2; leg++)
		written[leg] = volume_writes(leg);
	turns_together(inode, writers, WRITERS);
	for (int leg = 0; leg < 2; leg++)
		ck_assert_uint_eq(volume_writes(leg), written[leg] + 1);
	inode_put(inode);
	for (unsigned int i = 0; i < WRITERS; i++) {
		ck_assert_int_eq(writers[i].answer, FS_BLOCK);
		ck_assert(!writers[i].stale);
	}
	for (int again = 0; again < 2; again++) {
		expect_pattern(file, 0, 5 * FS_BLOCK, 1);
		expect_pattern(file, 200 * FS_BLOCK, LONG - 200 * FS_BLOCK, 1);
		for (unsigned int i = 0; i < WRITERS; i++)
			expect_pattern(file, writers[i].offset, FS_BLOCK, writers[i].seed);
		volume_remount();
	}
}
END_TEST

START_TEST(of_writes_to_one_block_that_go_together_one_is_last)
{
	struct turn_writer writers[WRITERS];
	uint64_t file = make_file(ROOT, "file"), free_before;
	struct inode *inode;

	put_pattern(file, 0, 32 * FS_BLOCK, 1);
	free_before = free_blocks();
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	for (unsigned int i = 0; i < WRITERS; i++)
		writers[i] = (struct turn_writer){ .file = file, .offset = (i < 6 ? 7 : i) * FS_BLOCK,
						   .length = (i % 3 + 1) * FS_BLOCK, .seed = 2 + i };
	turns_together(inode, writers, WRITERS);
	inode_put(inode);
	for (int again = 0; again < 2; again++) {
		expect_pattern(file, 0, 6 * FS_BLOCK, 1);
		expect_pattern(file, 10 * FS_BLOCK, 22 * FS_BLOCK, 1);
		for (unsigned int block = 6; block < 10; block++) {
			unsigned char now[FS_BLOCK];
			unsigned int whose = 0;

			ck_assert_int_eq(fs_read(fs, file, now, FS_BLOCK, block * FS_BLOCK), FS_BLOCK);
			for (unsigned int i = 0; i < WRITERS; i++) {
				unsigned char *data = pattern_of(block * FS_BLOCK, FS_BLOCK, writers[i].seed);

				whose += !memcmp(now, data, FS_BLOCK) && block >= writers[i].offset / FS_BLOCK &&
					 block < (writers[i].offset + writers[i].length) / FS_BLOCK;
				free(data);
			}
			ck_assert_uint_eq(whose, 1);
		}
		ck_assert_uint_eq(free_blocks(), free_before);
		ck_assert_uint_eq((uint64_t)attr_of(file).st.st_blocks, 32 * FS_BLOCK / 512);
		volume_remount();
	}
}
END_TEST

START_TEST(a_write_that_fails_takes_no_other_with_it)
{
	const struct format_extent broken = { .length = le32_of(7), .flags = le32_of(1) };
	struct turn_writer writers[WRITERS];
	uint64_t file = make_file(ROOT, "file");
	const struct meta_key key = { file, TYPE_EXTENT, 300 };
	struct meta_txn *txn = meta_txn_begin(meta);
	struct inode *inode;

	put_pattern(file, 0, WRITERS * FS_BLOCK, 1);
	sync_file(file);
	meta_txn_put(txn, &key, &broken, sizeof(broken));
	ck_assert_int_eq(meta_txn_commit(txn, NULL), 0);
	ck_assert_int_eq(inode_get(fs, file, &inode), 0);
	for (unsigned int i = 0; i < WRITERS; i++)
		writers[i] = (struct turn_writer){ .file = file, .offset = (i == 3 ? 300 : i) * FS_BLOCK,
						   .length = FS_BLOCK, .seed = 2 };
	turns_together(inode, writers, WRITERS);
	inode_put(inode);
	for (unsigned int i = 0; i < WRITERS; i++)
		ck_assert_int_eq(writers[i].answer, i == 3 ? -EIO : (ssize_t)FS_BLOCK);
	expect_pattern(file, 0, 3 * FS_BLOCK, 2);
	expect_pattern(file, 3 * FS_BLOCK, FS_BLOCK, 1);
	expect_pattern(file, 4 * FS_BLOCK, 4 * FS_BLOCK, 2);
	volume_crash(); /* with a page that cannot be written */
}
END_TEST

Suite *direct_suite(void)
{
	Suite *suite = suite_create("direct");
	TCase *tests = tcase_create("direct"), *small = tcase_create("direct-small");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, a_long_read_leaves_nothing_in_the_cache_unless_it_comes_again);
	tcase_add_test(tests, a_short_read_goes_past_the_cache_if_that_is_wanted);
	tcase_add_test(tests, a_long_stream_of_writes_lies_in_order);
	tcase_add_test(tests, a_long_write_goes_to_the_legs_in_pieces);
	tcase_add_test(tests, what_was_copied_before_its_turn_is_written_in_parts);
	tcase_add_test(tests, a_transaction_that_has_something_waits_for_no_buffer);
	tcase_add_test(tests, a_read_past_the_cache_has_the_pages_that_are_newer);
	tcase_add_test(tests, a_write_past_the_cache_is_what_is_read_from_then_on);
	tcase_add_test(tests, a_write_past_the_cache_copies_nothing_into_it);
	tcase_add_test(tests, a_page_on_its_way_does_not_undo_a_write_past_the_cache);
	tcase_add_test(tests, readers_see_each_block_as_it_was_or_as_it_becomes);
	tcase_add_test(tests, writes_that_wait_together_are_one_write_of_each_leg);
	tcase_add_test(tests, of_writes_to_one_block_that_go_together_one_is_last);
	tcase_add_test(tests, a_write_that_fails_takes_no_other_with_it);
	suite_add_tcase(suite, tests);
	tcase_add_checked_fixture(small, volume_setup_small, volume_teardown);
	tcase_set_timeout(small, 60);
	tcase_add_test(small, a_write_past_the_cache_that_fails_loses_nothing);
	suite_add_tcase(suite, small);
	return suite;
}
