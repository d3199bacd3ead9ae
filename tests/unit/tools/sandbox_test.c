/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a daemon in the sandbox cannot do any more, and what it can. */
#include "sandbox.h"

#include "mirrorfs/base/log.h"
#include "mirrorfs/base/sync.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char said[8192];
static int lines;
static bool entered;

/*
 * Check asks for a timer whenever it looks at the clock, and where there is none takes another clock. So in the sandbox
 * a test would end by another one than it began by, and last for a time that Check refuses at half of all moments.
 */
int timer_create(clockid_t clock, struct sigevent *event, timer_t *timer)
{
	int (*libc)(clockid_t, struct sigevent *, timer_t *) = dlsym(RTLD_NEXT, "timer_create");

	if (!entered)
		return libc(clock, event, timer);
	*timer = NULL;
	return 0;
}

static void sink(enum log_level level, const char *line)
{
	ck_assert_int_eq(level, LOG_LEVEL_ERROR);
	snprintf(said + strlen(said), sizeof(said) - strlen(said), "%s\n", line);
	lines++;
}

/* Each test is a process of its own. */
static void enter(void)
{
	log_set_sink(sink);
	sandbox_begin();
	sandbox_enter(false);
	entered = true;
	ck_assert_str_eq(said, "");
}

/* With a sanitizer there is no filter. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void fails(long result)
{
	ck_assert_int_eq(result, -1);
	ck_assert_int_eq(errno, ENOSYS);
}

START_TEST(no_process_is_started_and_none_becomes_another_program)
{
	char *const argv[] = { "true", NULL };

	enter();
	fails(execve("/bin/true", argv, NULL));
	fails(execveat(AT_FDCWD, "/bin/true", argv, NULL, 0));
	fails(fork());
	fails(vfork());
}
END_TEST

/* The C library starts it with all signals blocked: then nobody is there to hear of the refusal. */
START_TEST(a_refusal_that_cannot_be_told_is_the_end)
{
	char *const argv[] = { "true", NULL };
	pid_t pid;

	enter();
	posix_spawn(&pid, "/bin/true", NULL, NULL, argv, NULL);
}
END_TEST

START_TEST(no_other_process_is_looked_into_or_signalled)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { &byte, 1 };

	enter();
	fails(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
	fails(process_vm_readv(getppid(), &here, 1, &there, 1, 0));
	fails(process_vm_writev(getppid(), &here, 1, &there, 1, 0));
	fails(kill(getppid(), 0));
	fails(syscall(SYS_tgkill, getppid(), getppid(), 0));
	fails(syscall(SYS_pidfd_open, getppid(), 0));
}
END_TEST

START_TEST(memory_that_was_written_is_not_run)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	enter();
	fails(mprotect(at, 4096, PROT_READ | PROT_EXEC));
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
	ck_assert_int_eq(errno, ENOSYS);
	ck_assert_int_eq(mprotect(at, 4096, PROT_READ), 0);
}
END_TEST

START_TEST(the_system_and_who_one_is_stay_as_they_are)
{
	struct {
		uint32_t version;
		int pid;
	} cap = { 0x20080522, 0 };
	uint32_t all[6] = { ~0u, ~0u, ~0u, ~0u, ~0u, ~0u };

	enter();
	fails(mount("none", "/tmp", "tmpfs", 0, NULL));
	fails(umount2("/nowhere", MNT_DETACH));
	fails(syscall(SYS_setuid, 65534));
	fails(syscall(SYS_setgroups, 0, NULL));
	fails(chroot("/"));
	fails(unshare(CLONE_NEWNS));
	fails(syscall(SYS_setns, 0, 0));
	fails(syscall(SYS_bpf, 0, NULL, 0));
	fails(syscall(SYS_init_module, NULL, 0, ""));
	fails(syscall(SYS_kexec_load, 0, 0, NULL, 0));
	fails(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	fails(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
	fails(syscall(SYS_userfaultfd, 0));
	fails(syscall(SYS_mknodat, AT_FDCWD, "/tmp/device", S_IFBLK, 0));
	fails(syscall(SYS_sethostname, "x", 1));
	fails(ioctl(0, TIOCSTI, "x"));
	/* What was left does not come back. */
	ck_assert_int_eq(syscall(SYS_capset, &cap, all), -1);
	ck_assert_int_eq(errno, EPERM);
}
END_TEST

START_TEST(there_is_no_network)
{
	int fd;

	enter();
	fails(socket(AF_INET, SOCK_STREAM, 0));
	fails(socket(AF_INET6, SOCK_DGRAM, 0));
	fails(socket(AF_NETLINK, SOCK_RAW, 0));
	fails(socket(AF_PACKET, SOCK_RAW, 0));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	close(fd);
}
END_TEST

START_TEST(a_refusal_is_told_once_and_by_name)
{
	enter();
	for (int i = 0; i < 3; i++)
		fails(chroot("/"));
	ck_assert_int_eq(lines, 1);
	ck_assert(strstr(said, "call=chroot "));
	fails(umount2("/nowhere", 0));
	ck_assert_int_eq(lines, 2);
}
END_TEST

static pthread_barrier_t barrier;
static int thread_errno[2];

static void try_root(void *arg)
{
	int *number = arg;

	pthread_barrier_wait(&barrier);
	*number = chroot("/") ? errno : 0;
}

START_TEST(threads_that_were_there_and_new_ones_are_filtered)
{
	struct thread before, behind;

	pthread_barrier_init(&barrier, NULL, 2);
	ck_assert_int_eq(thread_start(&before, "before", try_root, &thread_errno[0]), 0);
	enter();
	pthread_barrier_wait(&barrier);
	thread_join(&before);
	ck_assert_int_eq(thread_start(&behind, "behind", try_root, &thread_errno[1]), 0);
	pthread_barrier_wait(&barrier);
	thread_join(&behind);
	ck_assert_int_eq(thread_errno[0], ENOSYS);
	ck_assert_int_eq(thread_errno[1], ENOSYS);
}
END_TEST
#endif

/* Of the calling thread. */
static uint64_t capabilities(const char *kind)
{
	char line[256], path[64];
	unsigned long long set = ~0ull;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)gettid());
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, kind, strlen(kind)) && sscanf(line + strlen(kind), ": %llx", &set) == 1)
			break;
	fclose(file);
	return set;
}

static void tell_capabilities(void *arg)
{
	*(uint64_t *)arg = capabilities("CapPrm");
}

START_TEST(capabilities_go_when_a_thread_starts_and_when_all_is_set_up)
{
	/* CAP_DAC_OVERRIDE, CAP_IPC_LOCK */
	uint64_t has = capabilities("CapPrm"), kept = has & (1u << 1 | 1u << 14), found = ~0ull;
	struct thread thread;

	log_set_sink(sink);
	sandbox_begin();
	ck_assert_int_eq(thread_start(&thread, "t", tell_capabilities, &found), 0);
	thread_join(&thread);
	ck_assert_uint_eq(found, kept);
	ck_assert_uint_eq(capabilities("CapPrm"), has);
	ck_assert_uint_eq(capabilities("CapEff"), kept);
	sandbox_lift();
	ck_assert_uint_eq(capabilities("CapEff"), has);
	sandbox_lower();
	ck_assert_uint_eq(capabilities("CapEff"), kept);
	sandbox_enter(false);
	entered = true;
	ck_assert_uint_eq(capabilities("CapPrm"), kept);
}
END_TEST

START_TEST(what_the_daemon_does_goes_on)
{
	char name[] = "/tmp/sandbox-test-XXXXXX", byte = 'x';
	uint64_t size;
	int fd;

	enter();
	fd = mkstemp(name);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, &byte, 1, 4095), 1);
	ck_assert_int_eq(posix_fallocate(fd, 0, 8192), 0);
	ck_assert_int_eq(fdatasync(fd), 0);
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	/* A file is no device: that is the kernel's answer. */
	ck_assert_int_eq(ioctl(fd, BLKGETSIZE64, &size), -1);
	ck_assert_int_eq(errno, ENOTTY);
	close(fd);
	ck_assert_int_eq(unlink(name), 0);
	ck_assert_int_eq(lines, 0);
}
END_TEST

START_TEST(who_breaks_an_assertion_still_dies_of_it)
{
	enter();
	abort();
}
END_TEST

TCase *sandbox_tests(void);
TCase *sandbox_tests(void)
{
	TCase *tests = tcase_create("sandbox");

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	tcase_add_test(tests, no_process_is_started_and_none_becomes_another_program);
	tcase_add_test_raise_signal(tests, a_refusal_that_cannot_be_told_is_the_end, SIGSYS);
	tcase_add_test(tests, no_other_process_is_looked_into_or_signalled);
	tcase_add_test(tests, memory_that_was_written_is_not_run);
	tcase_add_test(tests, the_system_and_who_one_is_stay_as_they_are);
	tcase_add_test(tests, there_is_no_network);
	tcase_add_test(tests, a_refusal_is_told_once_and_by_name);
	tcase_add_test(tests, threads_that_were_there_and_new_ones_are_filtered);
#endif
	tcase_add_test(tests, capabilities_go_when_a_thread_starts_and_when_all_is_set_up);
	tcase_add_test(tests, what_the_daemon_does_goes_on);
	tcase_add_test_raise_signal(tests, who_breaks_an_assertion_still_dies_of_it, SIGABRT);
	return tests;
}
