/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capabilities are each thread's own, and only the main one needs them, to mount: so the others leave theirs when they
 * start, and it follows when all is set up. Until then it has them at hand only while it mounts, since what the kernel
 * starts for a ring of io_uring keeps those that were in effect, and cannot leave them. The filter is put on all at
 * once.
 *
 * What is not listed is refused. A list of what is forbidden would be shorter, and would end with the kernel that it
 * was written for.
 */
#include "sandbox.h"

#include "mirrorfs/base/log.h"
#include "mirrorfs/base/sync.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <linux/fd.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/ucontext.h>
#include <unistd.h>

/* The runtime of a sanitizer makes calls that no daemon makes: they are not filtered. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* ---- capabilities ---- */

static cap_t sandbox_kept;
static cap_t sandbox_lifted, sandbox_lowered; /* of the main thread, while it may still mount */

static void take_capabilities(cap_t set)
{
	if (set && cap_set_proc(set))
		log_error("sandbox: capabilities are kept: %s", strerror(errno));
}

static void leave_capabilities(void)
{
	take_capabilities(sandbox_kept);
}

void sandbox_lift(void)
{
	take_capabilities(sandbox_lifted);
}

void sandbox_lower(void)
{
	take_capabilities(sandbox_lowered);
}

void sandbox_begin(void)
{
	/* Without the second a locked stack that grows beyond a user's limit would end the daemon. */
	static const cap_value_t kept[] = { CAP_DAC_OVERRIDE, CAP_IPC_LOCK };
	cap_t now = cap_get_proc(), keep = cap_init(), lowered = cap_dup(now);
	int error = now && keep && lowered ? cap_clear_flag(lowered, CAP_EFFECTIVE) : -1;

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]) && !error; i++) {
		cap_flag_value_t has;

		error = cap_get_flag(now, kept[i], CAP_PERMITTED, &has);
		if (!error)
			error = cap_set_flag(keep, CAP_PERMITTED, 1, &kept[i], has);
		if (!error)
			error = cap_set_flag(keep, CAP_EFFECTIVE, 1, &kept[i], has);
		if (!error)
			error = cap_set_flag(lowered, CAP_EFFECTIVE, 1, &kept[i], has);
	}
	if (error) {
		log_error("sandbox: capabilities are kept: %s", strerror(errno));
		return;
	}
	sandbox_kept = keep;
	sandbox_lifted = now;
	sandbox_lowered = lowered;
	thread_on_start(leave_capabilities);
	sandbox_lower();
}

/* ---- the filter ---- */

static const int allowed[] = {
	/* files, and what is open */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64),
	SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(preadv2), SCMP_SYS(pwritev2), SCMP_SYS(lseek),
	SCMP_SYS(_llseek), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range), SCMP_SYS(fallocate),
	SCMP_SYS(ftruncate), SCMP_SYS(ftruncate64), SCMP_SYS(fadvise64), SCMP_SYS(open), SCMP_SYS(openat),
	SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fcntl), SCMP_SYS(fcntl64),
	SCMP_SYS(flock), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstat), SCMP_SYS(stat64), SCMP_SYS(lstat64),
	SCMP_SYS(fstat64), SCMP_SYS(newfstatat), SCMP_SYS(fstatat64), SCMP_SYS(statx), SCMP_SYS(statfs),
	SCMP_SYS(statfs64), SCMP_SYS(fstatfs), SCMP_SYS(fstatfs64), SCMP_SYS(access), SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64), SCMP_SYS(getcwd),
	SCMP_SYS(chdir), SCMP_SYS(umask), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
	SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(symlink), SCMP_SYS(symlinkat),
	SCMP_SYS(chmod), SCMP_SYS(fchmod), SCMP_SYS(fchmodat),
	SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
	/* local sockets, and waiting for them */
	SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(connect), SCMP_SYS(shutdown),
	SCMP_SYS(send), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(recv), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),
	SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(poll),
	SCMP_SYS(ppoll), SCMP_SYS(ppoll_time64), SCMP_SYS(pipe2), SCMP_SYS(eventfd2), SCMP_SYS(signalfd4),
	/* threads and memory */
	SCMP_SYS(futex), SCMP_SYS(futex_time64), SCMP_SYS(futex_waitv), SCMP_SYS(set_robust_list), SCMP_SYS(rseq),
	SCMP_SYS(set_tid_address), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(sched_yield), SCMP_SYS(getcpu),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_setaffinity), SCMP_SYS(membarrier), SCMP_SYS(munmap),
	SCMP_SYS(mremap), SCMP_SYS(madvise),
	SCMP_SYS(brk), SCMP_SYS(mlock), SCMP_SYS(mlock2), SCMP_SYS(munlock), SCMP_SYS(mincore),
	/* signals */
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigreturn),
	SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigtimedwait), SCMP_SYS(rt_sigtimedwait_time64), SCMP_SYS(sigaltstack),
	SCMP_SYS(restart_syscall),
	/* clocks, and what one knows of oneself */
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_gettime64), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep),
	SCMP_SYS(clock_nanosleep_time64), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time),
	SCMP_SYS(getrandom), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getrusage), SCMP_SYS(getrlimit),
	SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
	SCMP_SYS(getegid), SCMP_SYS(getgroups), SCMP_SYS(capget), SCMP_SYS(capset), SCMP_SYS(setsid),
	SCMP_SYS(wait4), SCMP_SYS(waitid),
};

/* Allowed where an argument is one of these. */
static const struct {
	int call;
	struct scmp_arg_cmp argument;
} allowed_if[] = {
	{ SCMP_SYS(socket), SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX) },
	/* by its kind: of block devices, CD-ROMs, FUSE, RAIDs, disks that lock themselves; and what libblkid asks */
	{ SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xff00, 0x12 << 8) },
	{ SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xff00, 'S' << 8) },
	{ SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xff00, 229 << 8) },
	{ SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xff00, 'p' << 8) },
	{ SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_MASKED_EQ, 0xff00, 9 << 8) },
	{ SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_EQ, FDGETFDCSTAT) },
	{ SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_EQ, TCGETS) },
	/* no memory that was written is run */
	{ SCMP_SYS(mmap), SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
	{ SCMP_SYS(mmap2), SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
	{ SCMP_SYS(mprotect), SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
	/* threads, not processes */
#ifdef __s390__
	{ SCMP_SYS(clone), SCMP_A1(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD) },
#else
	{ SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD) },
#endif
	{ SCMP_SYS(prctl), SCMP_A0_32(SCMP_CMP_EQ, PR_SET_NAME) },
	{ SCMP_SYS(prctl), SCMP_A0_32(SCMP_CMP_EQ, PR_GET_NAME) },
	{ SCMP_SYS(prctl), SCMP_A0_32(SCMP_CMP_EQ, PR_SET_PDEATHSIG) },
	{ SCMP_SYS(prctl), SCMP_A0_32(SCMP_CMP_EQ, PR_SET_VMA) },
	{ SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0) },
};

/* For legs that are served elsewhere: their names are looked up, and what lies on a new one is looked at in memory. */
static const struct {
	int call;
	struct scmp_arg_cmp argument;
} allowed_for_network[] = {
	{ SCMP_SYS(socket), SCMP_A0_32(SCMP_CMP_EQ, AF_INET) },
	{ SCMP_SYS(socket), SCMP_A0_32(SCMP_CMP_EQ, AF_INET6) },
	{ SCMP_SYS(socket), SCMP_A0_32(SCMP_CMP_EQ, AF_VSOCK) },
	{ SCMP_SYS(socket), SCMP_A0_32(SCMP_CMP_EQ, AF_NETLINK) }, /* which addresses this machine has */
	{ SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_EQ, FIONREAD) },
	{ SCMP_SYS(sendmmsg), SCMP_A3_32(SCMP_CMP_GE, 0) },
	{ SCMP_SYS(memfd_create), SCMP_A1_32(SCMP_CMP_GE, 0) },
};

/* Where we do not know how to answer in the place of the kernel, it answers, and its log tells. */
#if defined(__x86_64__)
#define ANSWER(context) (context)->uc_mcontext.gregs[REG_RAX]
#elif defined(__aarch64__)
#define ANSWER(context) (context)->uc_mcontext.regs[0]
#endif

#ifdef ANSWER
#define REFUSE SCMP_ACT_TRAP
#define CALLS 1024

static void refused(int number, siginfo_t *info, void *context)
{
	static atomic_bool told[CALLS];
	int call = info->si_syscall, before = errno;

	if (call >= 0 && (call >= CALLS || !atomic_exchange(&told[call], true))) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);

		log_error("sandbox: refused a call that mirrorfs never makes call=%s number=%d: nothing was done",
			  name ? name : "unknown", call);
		free(name);
	}
	ANSWER((ucontext_t *)context) = -ENOSYS;
	errno = before;
}

static int refusals_watch(void)
{
	struct sigaction action = { .sa_sigaction = refused, .sa_flags = SA_SIGINFO };

	return sigaction(SIGSYS, &action, NULL) ? -errno : 0;
}
#else
#define REFUSE SCMP_ACT_ERRNO(ENOSYS)

static int refusals_watch(void)
{
	return 0;
}
#endif

static int filter_rules(scmp_filter_ctx filter, bool network)
{
	int error = 0;

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; i < sizeof(allowed_if) / sizeof(allowed_if[0]) && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_if[i].call, 1, allowed_if[i].argument);
	for (size_t i = 0; network && i < sizeof(allowed_for_network) / sizeof(allowed_for_network[0]) && !error; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_for_network[i].call, 1,
					 allowed_for_network[i].argument);
	/* The C library then asks with clone, whose flags can be seen. */
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* abort() */
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
					 SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid()));
	return error;
}

static int filter_load(bool network)
{
	scmp_filter_ctx filter = seccomp_init(REFUSE);
	int error;

	if (!filter)
		return -ENOMEM;
	error = refusals_watch();
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* Where the kernel can: a call is looked up in a tree; and its log tells what we cannot. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, REFUSE != SCMP_ACT_TRAP);
	if (!error)
		error = filter_rules(filter, network);
	if (!error)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error;
}

void sandbox_enter(bool network)
{
	int error = 0;

	leave_capabilities();
	if (!SANITIZED)
		error = filter_load(network);
	if (error)
		log_warn("sandbox: system calls are not filtered: %s", strerror(-error));
}
