/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one request of the 2026 report against dm-mirror: 4096 bytes from the start of a file by O_DIRECT, into a buffer
 * that is aligned to 32 bytes and no more. There a leg refused the memory with EINVAL, the mirror took that for a dead
 * leg, and the reader got EIO or hung where no signal reached it. So the read is done by a child: whatever becomes of
 * that, this program ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH 4096
#define PATIENCE_MSEC 60000

enum { GOT_IT = 0, REFUSED = 1, USAGE = 2, NO_ANSWER = 3 };

static int read_once(const char *path)
{
	static char memory[2 * LENGTH] __attribute__((aligned(LENGTH)));
	struct stat st;
	ssize_t got, whole;
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0) {
		fprintf(stderr, "odirect-read: %s: %s\n", path, strerror(errno));
		return REFUSED;
	}
	whole = st.st_size < LENGTH ? st.st_size : LENGTH;
	errno = 0;
	got = pread(fd, memory + 32, LENGTH, 0);
	printf("pread of %d said: %zd (%s)\n", LENGTH, got, strerror(errno));
	close(fd);
	return got == whole ? GOT_IT : REFUSED;
}

int main(int argc, char **argv)
{
	struct pollfd end = { .events = POLLIN };
	int ends[2], status;
	pid_t child;

	if (argc != 2 || argv[1][0] == '-') {
		fputs("usage: odirect-read FILE\n", stderr);
		return USAGE;
	}
	if (pipe(ends) < 0 || (child = fork()) < 0) {
		perror("odirect-read");
		return REFUSED;
	}
	if (child == 0)
		exit(read_once(argv[1]));
	/* The child holds the other end: it closes when the child ends, and not while a request hangs. */
	close(ends[1]);
	end.fd = ends[0];
	if (poll(&end, 1, PATIENCE_MSEC) == 0) {
		printf("pread of %d has no answer after %d s\n", LENGTH, PATIENCE_MSEC / 1000);
		kill(child, SIGKILL);
		return NO_ANSWER;
	}
	if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
		return REFUSED;
	return WEXITSTATUS(status);
}
