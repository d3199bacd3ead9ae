/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often each thing that the simulator is there for has happened, in all runs of this command and in whatever was
 * played aside: what a run has not driven it has not shown.
 */
#ifndef SIM_TALLY_H
#define SIM_TALLY_H

#include <stdbool.h>

/* What befalls legs: name, what it is. */
#define TALLIES_OF_LEGS(X)											\
	X(BEGUN_WITH_ONE, "volumes that begin with one leg")							\
	X(LOST_AT_CRASH, "crashes that a disk is lost with")							\
	X(MISSING, "mounts that a leg in sync is missing at")							\
	X(BLIND, "mounts that a leg cannot be read at")								\
	X(PULLED_INSYNC, "legs pulled while in sync")								\
	X(PULLED_CACHE, "legs that lost what was in their cache when pulled while in sync")			\
	X(FAILED, "legs in sync that fail and go out")								\
	X(DETACHED, "legs detached")										\
	X(DETACHED_HANGING, "legs that hang when they are to be detached")					\
	X(LIES, "legs that say that they have stored what they have not")					\
	X(SLOW, "mounts with a leg that is called slow")							\
	X(HEDGED, "mounts with reads that were sent to the other leg as well")					\
	X(ABANDONED, "mounts with requests that a leg did not answer in time")					\
	X(REQUEST_ERRORS, "mounts with errors that were the request's")						\
	X(OUT_UNCHARGED, "legs that go out for such an error, and are not charged")				\
	X(ATTACHED_AGAIN, "legs attached again")								\
	X(ATTACHED_BLANK, "blank legs attached")								\
	X(ATTACHED_LARGER, "larger legs attached")								\
	X(ATTACHED_SECTOR, "legs attached whose sectors are not those of the other one")			\
	X(ATTACHED_SPLIT, "legs attached that were written alone, whose history is given up")			\
	X(REPLACED, "legs replaced")										\
	X(REPLACED_SAID, "legs that were replaced and say so")							\
	X(REPLACED_ROT, "legs replaced while the other one rots")						\
	X(REFUSED_SMALL, "legs that are too small to be attached")						\
	X(REFUSED_SPLIT, "mounts refused, as both legs were written alone")					\
	X(RETURNED, "mounts that a leg is stale at")								\
	X(RESYNC, "resyncs")											\
	X(RESYNC_STOPPED, "resyncs that stop and are to go on")							\
	X(RESYNC_LOST, "legs lost while they are filled")							\
	X(RESYNC_CRASH, "crashes while a leg is filled")							\
	X(RESYNC_ENDED, "resyncs that end well")								\
	X(FILLED_CRASH, "crashes just behind the end of a resync")						\
	X(FILLED_ALONE, "volumes left with one leg just behind it")						\
	X(ALONE, "legs mounted alone that the volume went on without")						\
	X(ALONE_REFUSED, "such legs that must not be mounted alone")						\
	X(GROWN, "volumes that grow")										\
	X(GROWN_ALONE, "of these, such as have one leg")							\
	X(GROW_REFUSED, "growths refused, as not every leg is whole or has become larger")			\
	X(GROW_CRASH, "crashes while a volume grows")								\
	X(FULL, "times that both disks are full")								\
	X(TIMED, "requests whose time was taken")								\
	X(EMPTY, "empty requests, refused")									\
	X(SCRUB_HEALED, "scrubs that heal something")
/* What is done to files, at level fs. */
#define TALLIES_OF_FILES(X)											\
	X(SYMLINK, "symlinks made")										\
	X(SPECIAL, "devices, pipes and sockets made")								\
	X(NAMED, "files without a name that were given one")							\
	X(EXCHANGED, "names exchanged")										\
	X(WHITEOUT, "renames that leave a whiteout")								\
	X(XATTR_SHORT, "extended attributes set that fit into one item")					\
	X(XATTR_LONG, "extended attributes set that do not")							\
	X(XATTR_REMOVED, "extended attributes removed")								\
	X(XATTR_REFUSED, "extended attributes that were to be there, or not to be there, and refused")		\
	X(ACL, "access lists set")										\
	X(ACL_CHMOD, "modes changed that have an access list")							\
	X(ACL_INHERITED, "files made that inherit one")								\
	X(FLAGS, "flags of chattr set")										\
	X(FORBIDDEN, "operations that a flag forbids")								\
	X(READ_BEGUN, "reads that nobody waits for while they are under way")					\
	X(RELABELLED, "labels of the volume set")

#define TALLY_NAME(name, text) TALLY_##name,
enum tally {
	TALLIES_OF_LEGS(TALLY_NAME) TALLY_LEGS_END, TALLIES_OF_FILES(TALLY_NAME) TALLY_ALL
};

void tally_start(void); /* before the first process is forked */
void tally(enum tally what);
/* One line for each; those of files only at level fs. False: something never happened. */
bool tally_print(bool files);

#endif
