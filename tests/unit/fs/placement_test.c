/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fixture.h"

#include "mirrorfs/base/clock.h"

#include <stdio.h>

/* ---- on a volume ---- */

/* The pieces that a file consists of on the legs. */
static unsigned int pieces_of(uint64_t file, uint64_t blocks)
{
	struct meta_mapping mapping;
	unsigned int pieces = 0;
	uint64_t end = 0;

	for (uint64_t block = 0; block < blocks; block += mapping.count) {
		ck_assert_int_eq(meta_map(meta, file, block, 256, &mapping), 0);
		ck_assert_uint_ne(mapping.address, 0);
		pieces += mapping.address != end;
		end = mapping.address + mapping.count;
	}
	return pieces;
}

static uint64_t address_of(uint64_t file)
{
	struct meta_mapping mapping;

	ck_assert_int_eq(meta_map(meta, file, 0, 1, &mapping), 0);
	return mapping.address;
}

START_TEST(files_written_in_turns_do_not_lie_in_turns)
{
	uint64_t files[3] = { make_file(ROOT, "a"), make_file(ROOT, "b"), make_file(ROOT, "c") };

	for (uint64_t block = 0; block < 300; block++)
		for (unsigned int i = 0; i < 3; i++) {
			put_pattern(files[i], block * FS_BLOCK, FS_BLOCK, i);
			sync_file(files[i]);
		}
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_le(pieces_of(files[i], 300), 8);
}
END_TEST

START_TEST(a_file_that_is_replaced_in_order_lies_in_order)
{
	uint64_t file = make_file(ROOT, "file"), other = make_file(ROOT, "other");

	put_pattern(file, 0, 2 << 20, 1);
	sync_file(file);
	put_pattern(other, 0, 1 << 20, 2);
	sync_file(other);
	for (uint64_t block = 0; block < 512; block++) {
		put_pattern(file, block * FS_BLOCK, FS_BLOCK, 3);
		sync_file(file);
		put_pattern(other, block % 256 * FS_BLOCK, FS_BLOCK, 3);
		sync_file(other);
	}
	ck_assert_uint_le(pieces_of(file, 512), 16);
}
END_TEST

START_TEST(small_files_of_a_directory_lie_together)
{
	uint64_t directories[2] = { make_dir(ROOT, "one"), make_dir(ROOT, "two") };
	static uint64_t files[2][150];
	unsigned int apart = 0;

	for (unsigned int i = 0; i < 150; i++)
		for (unsigned int j = 0; j < 2; j++) {
			char name[8];

			snprintf(name, sizeof(name), "%u", i);
			files[j][i] = make_file(directories[j], name);
			put_pattern(files[j][i], 0, (1 + i % 4) * FS_BLOCK, i);
			sync_file(files[j][i]);
		}
	for (unsigned int j = 0; j < 2; j++)
		for (unsigned int i = 1; i < 150; i++) {
			ck_assert_uint_eq(pieces_of(files[j][i], 1 + i % 4), 1);
			apart += address_of(files[j][i]) != address_of(files[j][i - 1]) + 1 + (i - 1) % 4;
		}
	ck_assert_uint_le(apart, 16);
}
END_TEST

START_TEST(small_files_that_are_written_anew_lie_side_by_side)
{
	uint64_t files[20];

	for (unsigned int i = 0; i < 20; i++) {
		char name[8];

		snprintf(name, sizeof(name), "%u", i);
		files[i] = make_file(ROOT, name);
		put_pattern(files[i], 0, FS_BLOCK, i);
	}
	volume_remount(); /* nobody knows any more in which directory they are */
	for (unsigned int i = 0; i < 20; i++) {
		set_size(files[i], 0);
		put_pattern(files[i], 0, 2 * FS_BLOCK, i);
		sync_file(files[i]);
		if (i)
			ck_assert_uint_eq(address_of(files[i]), address_of(files[i - 1]) + 2);
	}
}
END_TEST

/* ---- a volume grown old, with no disk ---- */

/*
 * The allocator and the policy alone, with what a volume of 16 GiB asks of them: files of one block to 128 MiB,
 * log-uniform, four of them written at a time; deletions, and overwriting here and there. Freed space comes back in
 * bulk, as a checkpoint frees it.
 */
#define OLD_BLOCKS (UINT64_C(4) << 20)
#define OLD_OPEN 4u
#define OLD_FILES 65536u
#define BIG_BLOCKS (UINT64_C(1) << 18) /* 1 GiB */

struct old_file {
	uint64_t directory, planned, written;
	uint64_t run;
	struct range_extent *pieces;
	unsigned int count, room;
};

struct old_volume {
	struct range *range;
	struct placement placement;
	uint64_t seed, used, written, ticket;
	struct old_file files[OLD_FILES]; /* the first ones are still being written */
	unsigned int count;
};

static uint64_t draw(uint64_t *state, uint64_t limit)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % limit;
}

static void old_release(struct old_volume *volume)
{
	range_release(volume->range, volume->ticket++, NULL, NULL);
}

static void old_free(struct old_volume *volume, uint64_t start, uint64_t length)
{
	ck_assert_int_eq(range_defer(volume->range, start, length, volume->ticket), 0);
	volume->used -= length;
}

/* What writeout and meta do for some blocks of a file. */
static struct range_extent old_place(struct old_volume *volume, const struct placement_step *step)
{
	struct meta_aim aim = placement_aim(&volume->placement, step);
	struct range_request request = { .at_least = aim.at_least < step->count ? aim.at_least : step->count,
					 .at_most = step->count, .zone = RANGE_HIGH, .goal = aim.goal,
					 .room = aim.room };
	struct range_extent got;

	if (range_alloc(volume->range, &request, &got)) {
		old_release(volume);
		request.at_least = 1;
		if (range_alloc(volume->range, &request, &got))
			ck_abort_msg("no space");
	}
	placement_done(&volume->placement, step, &got);
	volume->used += got.length;
	volume->written += got.length;
	return got;
}

static void insert_piece(struct old_file *file, unsigned int index, struct range_extent piece)
{
	if (file->count == file->room) {
		file->room = file->room ? 2 * file->room : 4;
		file->pieces = reallocarray(file->pieces, file->room, sizeof(*file->pieces));
		if (!file->pieces)
			abort();
	}
	memmove(&file->pieces[index + 1], &file->pieces[index], (file->count - index) * sizeof(piece));
	file->pieces[index] = piece;
	file->count++;
}

static void append(struct old_volume *volume, struct old_file *file, uint64_t most)
{
	struct range_extent *last = file->count ? &file->pieces[file->count - 1] : NULL, got;
	struct placement_step step = {
		.directory = file->directory,
		.block = file->written,
		.count = (uint32_t)(most < file->planned - file->written ? most : file->planned - file->written),
		.before = last ? last->start + last->length : 0,
		.run = file->run,
		.had = file->written,
		.blocks = file->written + 4 * most < file->planned ? file->written + 4 * most : file->planned,
	};

	got = old_place(volume, &step);
	file->written += got.length;
	file->run += got.length;
	if (last && last->start + last->length == got.start)
		last->length += got.length;
	else
		insert_piece(file, file->count, got);
}

/* Some blocks in the middle of a piece are written anew. */
static void overwrite(struct old_volume *volume, struct old_file *file)
{
	unsigned int index = (unsigned int)draw(&volume->seed, file->count);
	struct range_extent was = file->pieces[index], got;
	uint64_t from = draw(&volume->seed, was.length), length = 1 + draw(&volume->seed, 16), behind;
	struct placement_step step = { .directory = file->directory, .block = 1, .had = file->written,
				       .blocks = file->written, .before = was.start + from };

	if (length > was.length - from)
		length = was.length - from;
	step.count = (uint32_t)length;
	got = old_place(volume, &step);
	old_free(volume, was.start + from, got.length);
	behind = was.length - from - got.length;
	file->pieces[index].length = from;
	if (behind)
		insert_piece(file, index + 1, (struct range_extent){ was.start + from + got.length, behind });
	if (from)
		insert_piece(file, index + 1, got);
	else
		file->pieces[index] = got;
}

static void delete(struct old_volume *volume, unsigned int index)
{
	struct old_file *file = &volume->files[index];

	for (unsigned int i = 0; i < file->count; i++)
		old_free(volume, file->pieces[i].start, file->pieces[i].length);
	free(file->pieces);
	*file = volume->files[--volume->count];
}

static struct old_file new_file(struct old_volume *volume)
{
	uint64_t doubled = UINT64_C(1) << draw(&volume->seed, 15);

	return (struct old_file){ .directory = 2 + draw(&volume->seed, 200),
				  .planned = doubled + draw(&volume->seed, doubled) };
}

/* One of the open files gets some blocks; when it has all, it is closed and a new one is opened in its place. */
static void write_some(struct old_volume *volume)
{
	unsigned int index = (unsigned int)draw(&volume->seed, OLD_OPEN);
	struct old_file *file = &volume->files[index];

	append(volume, file, draw(&volume->seed, 4) ? 256 : 1 + draw(&volume->seed, 16));
	if (file->written < file->planned)
		return;
	if (volume->count == OLD_FILES)
		delete(volume, OLD_OPEN);
	volume->files[volume->count++] = *file;
	volume->files[index] = new_file(volume);
}

static void grow_old(struct old_volume *volume, uint64_t most_used, uint64_t to_write)
{
	for (uint64_t step = 0; volume->written < to_write; step++) {
		write_some(volume);
		if (!draw(&volume->seed, 8) && volume->count > OLD_OPEN)
			overwrite(volume, &volume->files[OLD_OPEN + draw(&volume->seed, volume->count - OLD_OPEN)]);
		while (volume->used > most_used && volume->count > OLD_OPEN)
			delete(volume, OLD_OPEN + (unsigned int)draw(&volume->seed, volume->count - OLD_OPEN));
		if (step % 64 == 0)
			old_release(volume);
	}
	old_release(volume);
}

struct gaps {
	uint64_t *lengths;
	size_t count;
};

static bool gather(void *context, uint64_t start, uint64_t length)
{
	struct gaps *gaps = context;

	gaps->lengths[gaps->count++] = length;
	return true;
}

static int longer_first(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	return *left > *right ? -1 : *left < *right;
}

/* How many pieces it takes at least, the longest gaps first. */
static unsigned int pieces_needed(struct range *range, uint64_t blocks)
{
	struct range_stats stats;
	struct gaps gaps = { 0 };
	unsigned int needed = 0;

	range_stats(range, &stats);
	gaps.lengths = calloc(stats.ranges, sizeof(*gaps.lengths));
	range_each_free(range, gather, &gaps);
	qsort(gaps.lengths, gaps.count, sizeof(*gaps.lengths), longer_first);
	for (uint64_t sum = 0; sum < blocks; needed++) {
		ck_assert_uint_lt(needed, gaps.count);
		sum += gaps.lengths[needed];
	}
	free(gaps.lengths);
	printf("free: %llu blocks in %llu gaps;", (unsigned long long)stats.free, (unsigned long long)stats.ranges);
	for (unsigned int i = 0; i < 20; i++)
		printf(" %llu", (unsigned long long)stats.free_extents[i]);
	printf("\n");
	return needed;
}

START_TEST(an_old_volume_takes_a_big_file_in_hardly_more_pieces_than_it_must)
{
	struct old_volume *volume = calloc(1, sizeof(*volume));
	struct range_config config = { .start = 1000, .length = OLD_BLOCKS, .boundary = 1000 };
	struct old_file big = { .directory = 1, .planned = BIG_BLOCKS };
	const char *seed = getenv("MIRRORFS_SEED");
	unsigned int needed;

	volume->seed = seed && *seed ? strtoull(seed, NULL, 0) : random_u64();
	printf("placement: MIRRORFS_SEED=%llu\n", (unsigned long long)volume->seed);
	fflush(stdout);
	volume->range = range_create(&config);
	volume->ticket = 1;
	placement_init(&volume->placement);
	for (volume->count = 0; volume->count < OLD_OPEN; volume->count++)
		volume->files[volume->count] = new_file(volume);
	grow_old(volume, OLD_BLOCKS / 10 * 9, OLD_BLOCKS * 10);

	needed = pieces_needed(volume->range, BIG_BLOCKS);
	while (big.written < big.planned)
		append(volume, &big, 256);
	printf("a file of 1 GiB is %u pieces, at least %u\n", big.count, needed);
	ck_assert_uint_le(big.count, needed + 100);
	ck_assert_uint_le(needed, 450); /* 250 or so; 700 where files are not given room to grow */
	while (volume->count)
		delete(volume, 0);
	free(big.pieces);
	range_destroy(volume->range);
	placement_fini(&volume->placement);
	free(volume);
}
END_TEST

Suite *placement_suite(void)
{
	Suite *suite = suite_create("placement");
	TCase *tests = tcase_create("placement"), *old = tcase_create("old");

	tcase_add_checked_fixture(tests, volume_setup, volume_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, files_written_in_turns_do_not_lie_in_turns);
	tcase_add_test(tests, a_file_that_is_replaced_in_order_lies_in_order);
	tcase_add_test(tests, small_files_of_a_directory_lie_together);
	tcase_add_test(tests, small_files_that_are_written_anew_lie_side_by_side);
	suite_add_tcase(suite, tests);
	tcase_set_timeout(old, 120);
	tcase_add_loop_test(old, an_old_volume_takes_a_big_file_in_hardly_more_pieces_than_it_must, 0, 3);
	suite_add_tcase(suite, old);
	return suite;
}
