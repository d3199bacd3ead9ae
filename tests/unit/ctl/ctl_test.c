/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Server and client over a real socket, with a volume on two legs in memory behind them. */
#include "ctl_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/iobuf.h"
#include "mirrorfs/leg.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LEG_BYTES (UINT64_C(64) << 20)
#define MANY 40 /* more clients than the server keeps */
#define WAITERS 16 /* so many can be told of the end */

static struct iobuf_pool *pool;
static struct mirror *mirror;
static struct ctl *ctl;
static struct ctl_events *kept;
static struct ctl_mount mount;
static char directory[64];

static void volume_make(void)
{
	struct leg_memory_options memory = { .size_bytes = LEG_BYTES, .block_size = 512, .name = "memory" };
	struct mirror_identity identity = { .leg_count = 0 };
	struct mirror_options options = { .pool = NULL };
	struct leg *legs[MIRROR_LEGS];
	uint64_t blocks;

	pool = iobuf_pool_create(8 << 20, 8 << 20);
	options.pool = pool;
	kept = ctl_events_create();
	ck_assert_ptr_nonnull(kept);
	options.event = ctl_event;
	options.event_context = kept;
	for (int i = 0; i < MIRROR_LEGS; i++)
		ck_assert_int_eq(leg_memory_open(&memory, &legs[i]), 0);
	ck_assert_int_eq(mirror_format(legs, "tested", &identity, &blocks, NULL), 0);
	ck_assert_int_eq(mirror_open(legs, &options, &mirror, NULL), 0);
}

static void serve(void)
{
	struct ctl_subjects subjects = {
		.mirror = mirror, .mountpoint = "/mnt/tested", .source = "memory", .events = kept
	};
	struct error error = { "" };
	int code = ctl_serve(&subjects, &ctl, &error);

	ck_assert_msg(code == 0, "%s", error.text);
}

/* Root's sockets are in their own place whatever the environment says; their names are random here. */
static void setup(void)
{
	char uuid[UUID_TEXT_SIZE];

	strcpy(directory, "/tmp/ctl_test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	setenv("XDG_RUNTIME_DIR", directory, 1);
	volume_make();
	snprintf(mount.socket, sizeof(mount.socket), "%s/mirrorfs/%s.sock", geteuid() ? directory : "/run",
		 uuid_format(&mirror_identity(mirror)->volume, uuid));
	strcpy(mount.mountpoint, "/mnt/tested");
	serve();
}

static void teardown(void)
{
	char below[80];

	ctl_stop(ctl);
	ctl_destroy(ctl, 0, NULL);
	ck_assert_int_ne(access(mount.socket, F_OK), 0);
	mirror_close(mirror);
	ctl_events_destroy(kept);
	iobuf_pool_destroy(pool);
	snprintf(below, sizeof(below), "%s/mirrorfs", directory);
	rmdir(below);
	rmdir(directory);
}

static json_t *ask(const char *command)
{
	struct error error = { "" };
	json_t *last;
	int code = ctl_request(&mount, json_pack("{s:s}", "command", command), &last, &error);

	ck_assert_msg(code == 0, "%s", error.text);
	return last;
}

static int socket_connect(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, mount.socket);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static const char *error_of(const json_t *answer)
{
	return json_string_value(json_object_get(json_object_get(answer, "error"), "errno"));
}

static void assert_status_works(void)
{
	json_t *answer = ask("status");

	ck_assert_ptr_nonnull(json_object_get(answer, "result"));
	json_decref(answer);
}

START_TEST(status_tells_health_volume_and_legs)
{
	json_t *answer = ask("status"), *result = json_object_get(answer, "result");
	json_t *volume = json_object_get(result, "volume"), *legs = json_object_get(result, "legs");

	ck_assert_int_eq(json_integer_value(json_object_get(answer, "version")), CTL_VERSION);
	ck_assert_str_eq(json_string_value(json_object_get(result, "health")), "healthy");
	ck_assert_str_eq(json_string_value(json_object_get(volume, "label")), "tested");
	ck_assert_str_eq(json_string_value(json_object_get(volume, "mountpoint")), "/mnt/tested");
	ck_assert_uint_eq(json_array_size(legs), MIRROR_LEGS);
	for (size_t i = 0; i < MIRROR_LEGS; i++) {
		json_t *leg = json_array_get(legs, i), *io = json_object_get(leg, "io");

		ck_assert_str_eq(json_string_value(json_object_get(leg, "state")),
				 mirror_leg_state_name(MIRROR_INSYNC));
		ck_assert_int_eq(json_integer_value(json_object_get(leg, "size_bytes")), LEG_BYTES);
		ck_assert_int_gt(json_integer_value(json_object_get(json_object_get(io, "write"), "ops")), 0);
		ck_assert_int_eq(json_integer_value(json_object_get(io, "empty_refused")), 0);
	}
	json_decref(answer);
}
END_TEST

START_TEST(an_unknown_command_is_an_error)
{
	json_t *answer = ask("explode");

	ck_assert_str_eq(error_of(answer), "ENOSYS");
	json_decref(answer);
}
END_TEST

/* One such command at a time: but whoever has read the answer of one need not wait for it to be over. */
START_TEST(a_command_may_follow_another_at_once)
{
	for (int i = 0; i < 500; i++) {
		struct error error = { "" };
		json_t *last;
		int code = ctl_request(&mount, json_pack("{s:s, s:s, s:s}", "command", "set", "option", "deadline",
							 "value", "5"),
				       &last, &error);

		ck_assert_msg(code == 0, "%s", error.text);
		ck_assert_ptr_nonnull(json_object_get(last, "result"));
		json_decref(last);
	}
}
END_TEST

START_TEST(a_scrub_needs_something_to_scrub)
{
	json_t *answer = ask("scrub");

	ck_assert_str_eq(error_of(answer), "EOPNOTSUPP");
	json_decref(answer);
	assert_status_works();
}
END_TEST

/* Those behind `after`, when there are so many. */
static json_t *events_behind(json_int_t after, size_t count)
{
	for (;;) {
		json_t *answer, *events;

		ck_assert_int_eq(ctl_request(&mount, json_pack("{s:s, s:I}", "command", "events", "after", after),
					     &answer, NULL),
				 0);
		events = json_incref(json_object_get(json_object_get(answer, "result"), "events"));
		json_decref(answer);
		if (json_array_size(events) >= count)
			return events;
		json_decref(events);
		usleep(1000);
	}
}

static const char *state_in(const json_t *event, size_t leg)
{
	const json_t *legs = json_object_get(json_object_get(event, "state"), "legs");

	return json_string_value(json_object_get(json_array_get(legs, leg), "state"));
}

START_TEST(each_change_of_a_leg_is_one_event_with_what_the_volume_was_like)
{
	static const char *const states[] = { "offline", "absent" };
	json_t *events = events_behind(0, 0);

	ck_assert_uint_eq(json_array_size(events), 0);
	json_decref(events);
	ck_assert_int_eq(mirror_detach(mirror, 1, false, NULL), 0);
	events = events_behind(0, 2);
	ck_assert_uint_eq(json_array_size(events), 2);
	for (size_t i = 0; i < 2; i++) {
		const json_t *event = json_array_get(events, i), *state = json_object_get(event, "state");

		ck_assert_int_eq(json_integer_value(json_object_get(event, "number")), (json_int_t)i + 1);
		ck_assert_str_eq(json_string_value(json_object_get(event, "kind")), "leg-state");
		ck_assert_int_eq(json_integer_value(json_object_get(event, "leg")), 1);
		ck_assert_str_eq(state_in(event, 0), "in-sync");
		ck_assert_str_eq(state_in(event, 1), states[i]);
		ck_assert_int_eq(json_integer_value(json_object_get(state, "lacking_leg")), 1);
		ck_assert(json_is_false(json_object_get(state, "failed")));
	}
	json_decref(events);
	mirror_fail(mirror, "on a whim");
	events = events_behind(2, 1);
	ck_assert_uint_eq(json_array_size(events), 1);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(events, 0), "kind")), "read-only");
	ck_assert(json_is_true(json_object_get(json_object_get(json_array_get(events, 0), "state"), "failed")));
	json_decref(events);
}
END_TEST

START_TEST(many_healed_blocks_leave_room_for_changes_of_states)
{
	struct mirror_event event = { .kind = MIRROR_EVENT_REPAIR, .count = 1, .text = "healed" };
	unsigned int healed = 0, states = 0;
	json_t *events;

	ck_assert_int_eq(mirror_detach(mirror, 1, false, NULL), 0);
	json_decref(events_behind(0, 2));
	for (event.block = 0; event.block < 1000; event.block++)
		ctl_event(kept, &event);
	for (json_int_t after = 0; (events = events_behind(after, 0)) && json_array_size(events);) {
		for (size_t i = 0; i < json_array_size(events); i++) {
			const json_t *one = json_array_get(events, i);
			const char *kind = json_string_value(json_object_get(one, "kind"));

			ck_assert_int_gt(json_integer_value(json_object_get(one, "number")), after);
			after = json_integer_value(json_object_get(one, "number"));
			healed += !strcmp(kind, "healed");
			states += !strcmp(kind, "leg-state");
		}
		json_decref(events);
	}
	json_decref(events);
	ck_assert_uint_eq(states, 2);
	ck_assert_uint_eq(healed, 128);
}
END_TEST

START_TEST(garbage_is_answered_and_survived)
{
	static const char *const garbage[] = { "\n", "{\n", "[1,2]\n", "{\"command\": 7}\n", "\xff\xfe\n",
					       "{\"command\": \"status\", \"command\": \"scrub\"}\n" };

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		char line[256] = "";
		int fd = socket_connect();

		ck_assert_int_gt(send(fd, garbage[i], strlen(garbage[i]), 0), 0);
		ck_assert_int_gt(recv(fd, line, sizeof(line) - 1, 0), 0);
		ck_assert_ptr_nonnull(strstr(line, "EINVAL"));
		close(fd);
	}
	assert_status_works();
}
END_TEST

START_TEST(a_line_without_end_is_cut_off)
{
	static char endless[3 * 4096];
	char line[256] = "";
	int fd = socket_connect();

	memset(endless, 'x', sizeof(endless));
	send(fd, endless, sizeof(endless), MSG_NOSIGNAL);
	while (recv(fd, line, sizeof(line) - 1, 0) > 0)
		;
	close(fd);
	assert_status_works();
}
END_TEST

START_TEST(a_request_may_come_in_pieces)
{
	char line[256] = "";
	int fd = socket_connect();

	ck_assert_int_eq(send(fd, "{\"comm", 6, 0), 6);
	assert_status_works();
	ck_assert_int_eq(send(fd, "and\": \"explode\"}\n", 17, 0), 17);
	ck_assert_int_gt(recv(fd, line, sizeof(line) - 1, 0), 0);
	ck_assert_ptr_nonnull(strstr(line, "ENOSYS"));
	close(fd);
}
END_TEST

START_TEST(silent_clients_do_not_keep_others_out)
{
	int fds[MANY];

	for (int i = 0; i < MANY; i++) {
		fds[i] = socket_connect();
		assert_status_works();
	}
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
}
END_TEST

START_TEST(a_client_that_leaves_at_once_harms_nobody)
{
	for (int i = 0; i < MANY; i++) {
		int fd = socket_connect();

		ck_assert_int_gt(send(fd, "{\"command\": \"status\"}\n", 22, 0), 0);
		close(fd);
	}
	assert_status_works();
}
END_TEST

START_TEST(the_socket_is_for_its_owner_alone)
{
	struct stat st;

	ck_assert_int_eq(stat(mount.socket, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	*strrchr(mount.socket, '/') = '\0';
	ck_assert_int_eq(stat(mount.socket, &st), 0);
	ck_assert_uint_eq(st.st_mode & 022, 0);
	mount.socket[strlen(mount.socket)] = '/';
}
END_TEST

START_TEST(a_socket_left_behind_is_replaced)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ctl_stop(ctl);
	ctl_destroy(ctl, 0, NULL);
	strcpy(address.sun_path, mount.socket);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	serve();
	assert_status_works();
}
END_TEST

START_TEST(a_second_daemon_of_one_volume_is_refused)
{
	struct ctl_subjects subjects = { .mirror = mirror };
	struct error error = { "" };
	struct ctl *second;

	ck_assert_int_eq(ctl_serve(&subjects, &second, &error), -EBUSY);
	ck_assert_ptr_null(second);
	ck_assert_ptr_nonnull(strstr(error.text, "another daemon"));
	assert_status_works();
}
END_TEST

START_TEST(a_daemon_that_is_gone_is_told_apart)
{
	struct ctl_mount nowhere = { .mountpoint = "/mnt/x" }, dead = mount;
	struct error error = { "" };
	json_t *last;

	ck_assert_int_eq(ctl_request(&nowhere, json_object(), &last, &error), -ENOENT);
	ck_assert_ptr_null(last);
	strcpy(strrchr(dead.socket, '/'), "/none.sock");
	ck_assert_int_eq(ctl_request(&dead, json_object(), &last, NULL), -ENOENT);
}
END_TEST

/* The daemon is this process, whose end nobody can wait for. */
static struct ctl_end end_ask(void)
{
	struct error error = { "" };
	struct ctl_end end;
	int code = ctl_end_ask(&mount, &end, &error);

	ck_assert_msg(code == 0, "%s", error.text);
	ck_assert_int_ge(end.process, 0);
	close(end.process);
	end.process = -1;
	return end;
}

START_TEST(who_waits_for_the_end_is_told_when_it_is_there)
{
	struct ctl_end first = end_ask(), second = end_ask();
	char early;

	ctl_stop(ctl);
	/* The legs are not closed yet. */
	ck_assert_int_eq(recv(first.socket, &early, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ctl_destroy(ctl, 0, NULL);
	ctl = NULL;
	ck_assert_int_eq(ctl_end_wait(&first, NULL), 0);
	ck_assert_int_eq(ctl_end_wait(&second, NULL), 0);
}
END_TEST

START_TEST(who_waits_for_the_end_is_told_what_went_wrong)
{
	struct ctl_end held = end_ask();
	struct error error = { "" };

	ctl_stop(ctl);
	ctl_destroy(ctl, -EBUSY, "/dev/left is still held");
	ctl = NULL;
	ck_assert_int_eq(ctl_end_wait(&held, &error), -EBUSY);
	ck_assert_str_eq(error.text, "/dev/left is still held");
	serve();
	held = end_ask();
	ctl_stop(ctl);
	ctl_destroy(ctl, -ENOSPC, "no room");
	ctl = NULL;
	ck_assert_int_eq(ctl_end_wait(&held, &error), -EIO);
}
END_TEST

START_TEST(who_does_not_wait_after_all_leaves_room_for_others)
{
	struct ctl_end ends[MANY];

	for (int i = 0; i < MANY; i++) {
		struct ctl_end end = end_ask();

		ctl_end_forget(&end);
	}
	for (int i = 0; i < WAITERS; i++)
		ends[i] = end_ask();
	for (int i = 0; i < WAITERS; i++)
		ctl_end_forget(&ends[i]);
}
END_TEST

/* The daemon is this process, and does not end: whoever waited for that here would wait for ever. */
START_TEST(who_cannot_be_told_of_the_end_does_not_wait)
{
	struct ctl_end ends[WAITERS], more;
	struct error error = { "" };

	for (int i = 0; i < WAITERS; i++)
		ends[i] = end_ask();
	ck_assert_int_eq(ctl_end_ask(&mount, &more, &error), -EBUSY);
	ck_assert_ptr_nonnull(strstr(error.text, "cannot tell"));
	for (int i = 0; i < WAITERS; i++)
		ctl_end_forget(&ends[i]);
}
END_TEST

/* Somebody else, who says `first` and then `again` until nobody hears it. */
struct other {
	struct ctl_mount mount;
	const char *first, *again;
	int listener;
	pthread_t thread;
};

static void *other_run(void *arg)
{
	const struct other *other = arg;
	int fd = accept(other->listener, NULL, NULL);

	if (*other->first)
		send(fd, other->first, strlen(other->first), MSG_NOSIGNAL);
	while (*other->again && send(fd, other->again, strlen(other->again), MSG_NOSIGNAL) > 0)
		;
	close(fd);
	return NULL;
}

static struct other *other_begin(const char *first, const char *again)
{
	static struct other other;
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	other = (struct other){ .first = first, .again = again };
	other.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(other.mount.socket, sizeof(other.mount.socket), "%s/other.sock", directory);
	strcpy(address.sun_path, other.mount.socket);
	ck_assert_int_eq(bind(other.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(other.listener, 1), 0);
	ck_assert_int_eq(pthread_create(&other.thread, NULL, other_run, &other), 0);
	return &other;
}

static void other_end(struct other *other)
{
	pthread_join(other->thread, NULL);
	close(other->listener);
	unlink(other->mount.socket);
}

START_TEST(a_daemon_that_hangs_up_and_lives_is_not_waited_for)
{
	struct other *other = other_begin("", "");
	struct ctl_end end;

	ck_assert_int_eq(ctl_end_ask(&other->mount, &end, NULL), -EBUSY);
	other_end(other);
}
END_TEST

START_TEST(whoever_never_comes_to_the_answer_is_not_heard_for_ever)
{
	struct other *other = other_begin("", "\n\n\n");
	json_t *answer;

	client_patience_ns = NSEC_PER_SEC / 10;
	ck_assert_int_eq(ctl_request(&other->mount, json_pack("{s:s}", "command", "status"), &answer, NULL),
			 -ETIMEDOUT);
	ck_assert_ptr_null(answer);
	other_end(other);
}
END_TEST

START_TEST(an_answer_without_end_is_not_kept)
{
	static char much[1 << 20];
	struct other *other;
	json_t *answer;

	memset(much, 'x', sizeof(much) - 1);
	other = other_begin("", much);
	ck_assert_int_eq(ctl_request(&other->mount, json_pack("{s:s}", "command", "status"), &answer, NULL),
			 -EMSGSIZE);
	other_end(other);
}
END_TEST

START_TEST(an_answer_comes_behind_empty_lines)
{
	struct other *other = other_begin("\n\n{\"version\": 1, \"result\": {}}\n", "");
	json_t *answer;

	ck_assert_int_eq(ctl_request(&other->mount, json_pack("{s:s}", "command", "files"), &answer, NULL), 0);
	ck_assert_ptr_nonnull(json_object_get(answer, "result"));
	json_decref(answer);
	other_end(other);
}
END_TEST

START_TEST(a_daemon_that_ends_without_a_word_was_killed)
{
	struct ctl_end end = end_ask();
	struct error error = { "" };
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	close(end.socket);
	close(ends[1]);
	end.socket = ends[0];
	ck_assert_int_eq(ctl_end_wait(&end, &error), -ECONNRESET);
	ck_assert_ptr_nonnull(strstr(error.text, "killed"));
}
END_TEST

START_TEST(no_mount_is_found_where_none_is)
{
	struct ctl_mount found;

	ck_assert_int_eq(ctl_mounts(directory, &found, 1, NULL), 0);
	ck_assert_int_eq(ctl_mounts("/proc", &found, 1, NULL), 0);
	ck_assert_int_lt(ctl_mounts("/no/such/folder/at/all", &found, 1, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ctl");
	TCase *tests = tcase_create("ctl");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, status_tells_health_volume_and_legs);
	tcase_add_test(tests, an_unknown_command_is_an_error);
	tcase_add_test(tests, a_command_may_follow_another_at_once);
	tcase_add_test(tests, a_scrub_needs_something_to_scrub);
	tcase_add_test(tests, each_change_of_a_leg_is_one_event_with_what_the_volume_was_like);
	tcase_add_test(tests, many_healed_blocks_leave_room_for_changes_of_states);
	tcase_add_test(tests, garbage_is_answered_and_survived);
	tcase_add_test(tests, a_line_without_end_is_cut_off);
	tcase_add_test(tests, a_request_may_come_in_pieces);
	tcase_add_test(tests, silent_clients_do_not_keep_others_out);
	tcase_add_test(tests, a_client_that_leaves_at_once_harms_nobody);
	tcase_add_test(tests, the_socket_is_for_its_owner_alone);
	tcase_add_test(tests, a_socket_left_behind_is_replaced);
	tcase_add_test(tests, a_second_daemon_of_one_volume_is_refused);
	tcase_add_test(tests, a_daemon_that_is_gone_is_told_apart);
	tcase_add_test(tests, who_waits_for_the_end_is_told_when_it_is_there);
	tcase_add_test(tests, who_waits_for_the_end_is_told_what_went_wrong);
	tcase_add_test(tests, who_does_not_wait_after_all_leaves_room_for_others);
	tcase_add_test(tests, who_cannot_be_told_of_the_end_does_not_wait);
	tcase_add_test(tests, a_daemon_that_hangs_up_and_lives_is_not_waited_for);
	tcase_add_test(tests, whoever_never_comes_to_the_answer_is_not_heard_for_ever);
	tcase_add_test(tests, an_answer_without_end_is_not_kept);
	tcase_add_test(tests, an_answer_comes_behind_empty_lines);
	tcase_add_test(tests, a_daemon_that_ends_without_a_word_was_killed);
	tcase_add_test(tests, no_mount_is_found_where_none_is);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
