/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses, and the modules that they ask for.
 *
 * An address is a path, or a URI whose scheme names a transport. A transport is loaded because an address asks for it,
 * never because it is there: whoever has only paths maps nothing of it. It is looked for at one place: the folder it
 * was installed in. Programs that run where they were built have theirs in the same tree. No variable of the
 * environment and no search path has a say, as most of this is run by root.
 */
#include "transport.h"

#include "mirrorfs/base/log.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define SCHEME_FAULT "fault:"

static const struct {
	const char *scheme, *module, *package;
} transports[] = {
	{ "nbd", "leg-nbd.so", "mirrorfs-nbd" },	 { "nbds", "leg-nbd.so", "mirrorfs-nbd" },
	{ "nbd+unix", "leg-nbd.so", "mirrorfs-nbd" },	 { "nbds+unix", "leg-nbd.so", "mirrorfs-nbd" },
	{ "nbd+vsock", "leg-nbd.so", "mirrorfs-nbd" }, { "nbds+vsock", "leg-nbd.so", "mirrorfs-nbd" },
};

const char *leg_transport_folder;
static _Atomic(const struct leg_transport *) loaded; /* there is one module */
static atomic_bool sealed;

const char *leg_address_inside(const char *address)
{
	const char *colon;

	if (strncmp(address, SCHEME_FAULT, strlen(SCHEME_FAULT)) != 0)
		return address;
	colon = strchr(address + strlen(SCHEME_FAULT), ':');
	return colon ? colon + 1 : address;
}

/* Length of SCHEME in SCHEME://...; 0: it is a path. */
static size_t scheme_length(const char *uri)
{
	size_t length = 0;

	if (!islower((unsigned char)uri[0]))
		return 0;
	while (islower((unsigned char)uri[length]) || isdigit((unsigned char)uri[length]) ||
	       (uri[length] && strchr("+-.", uri[length])))
		length++;
	return strncmp(uri + length, "://", 3) ? 0 : length;
}

bool leg_address_elsewhere(const char *address)
{
	return scheme_length(leg_address_inside(address)) > 0;
}

/* ---- modules ---- */

static bool beside_us(char *path, size_t size, const char *module)
{
	static const char *const installed[] = { LEG_INSTALLED_BIN, LEG_INSTALLED_SBIN, LEG_INSTALLED_UDEV };
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[length > 0 ? length : 0] = '\0';
	slash = strrchr(self, '/');
	if (!slash || getauxval(AT_SECURE))
		return false;
	*slash = '\0';
	for (size_t i = 0; i < sizeof(installed) / sizeof(installed[0]); i++)
		if (!strcmp(self, installed[i]))
			return false;
	return snprintf(path, size, "%s/../src/leg/%s", self, module) < (int)size && !access(path, F_OK);
}

static void module_path(char *path, size_t size, const char *module)
{
	if (leg_transport_folder)
		snprintf(path, size, "%s/%s", leg_transport_folder, module);
	else if (!beside_us(path, size, module))
		snprintf(path, size, "%s/%s", LEG_INSTALLED_TRANSPORTS, module);
}

static int module_check(const struct leg_transport *transport, const char *path, struct error *error)
{
	if (transport && transport->abi == LEG_TRANSPORT_ABI && transport->leg_size == sizeof(struct leg))
		return 0;
	if (transport && transport->abi == LEG_TRANSPORT_ABI)
		return error_set(error, -ELIBBAD, "%s is of mirrorfs %s, this is %s: install both alike", path,
				 transport->version, MIRRORFS_VERSION);
	return error_set(error, -ELIBBAD,
			 "%s does not belong to this mirrorfs (interface %u, not %u): install both alike", path,
			 transport ? transport->abi : 0, LEG_TRANSPORT_ABI);
}

static int module_load(size_t which, const char *uri, const struct leg_transport **transport, struct error *error)
{
	char path[PATH_MAX];
	void *module;
	int code;

	*transport = atomic_load(&loaded);
	if (*transport)
		return 0;
	if (atomic_load(&sealed))
		return error_set(error, -EPERM,
				 "%s: this mount was begun without legs elsewhere, and gave up the right to reach "
				 "them; mount with -o network", uri);
	module_path(path, sizeof(path), transports[which].module);
	if (access(path, R_OK))
		return error_set(error, -ELIBACC, "%s: the module for it is not there: %s: %s; install the package %s",
				 uri, path, strerror(errno), transports[which].package);
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!module)
		return error_set(error, -ELIBBAD, "%s: its module cannot be loaded: %s; install the package %s anew",
				 uri, dlerror(), transports[which].package);
	*transport = dlsym(module, "leg_transport");
	code = module_check(*transport, path, error);
	if (code) {
		dlclose(module);
		return code;
	}
	/* It stays until the process ends: what it has started may outlive its legs. */
	atomic_store(&loaded, *transport);
	log_debug("loaded %s", path);
	return 0;
}

/* Its place in the table; -EINVAL told. */
static int transport_named(const char *uri, struct error *error)
{
	size_t length = scheme_length(uri);

	for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++)
		if (strlen(transports[i].scheme) == length && !strncmp(transports[i].scheme, uri, length))
			return (int)i;
	return error_set(error, -EINVAL,
			 "%s: %.*s:// is no transport of mirrorfs; a leg is a path, or nbd://HOST/EXPORT, "
			 "nbds://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH",
			 uri, (int)length, uri);
}

int leg_transport_open(const char *uri, const char *address, const struct leg_options *options, struct leg **leg,
		       struct error *error)
{
	const struct leg_transport *transport;
	int which = transport_named(uri, error), code;

	if (which < 0)
		return which;
	code = module_load((size_t)which, uri, &transport, error);
	return code ? code : transport->open(uri, address, options, leg, error);
}

int leg_network(struct error *error)
{
	const struct leg_transport *transport;

	return module_load(0, "-o network", &transport, error);
}

bool leg_network_seal(void)
{
	atomic_store(&sealed, true);
	return atomic_load(&loaded);
}
