/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, and the modules that they ask for. Each test is a process, which has loaded nothing. */
#include "leg_test.h"

extern const char *leg_transport_folder;

static int refused(const char *address, const char *folder, struct error *error)
{
	struct leg_options options = { .engine = LEG_ENGINE_AUTO };
	struct leg *leg;
	int code;

	error->text[0] = 0;
	leg_transport_folder = folder;
	code = leg_open(address, &options, &leg, error);
	ck_assert(code && !leg && error->text[0]);
	return code;
}

#define says(error, what) ck_assert_msg(strstr((error).text, what), "no %s: %s", what, (error).text)

START_TEST(an_address_is_a_path_or_a_uri)
{
	static const char *const paths[] = { "leg0", "/dev/sda", "./nbd://host/", "a:b", "nbd:/x", "NBD://host/",
					     "fault:read:/dev/sda", "://", "" };
	static const char *const uris[] = { "nbd://host/export", "nbds://host:1/", "nbd+unix:///?socket=/s",
					    "fault:read,hang:nbd://host/", "unheard-of.2://x" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		ck_assert_msg(!leg_address_elsewhere(paths[i]), "%s", paths[i]);
	for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++)
		ck_assert_msg(leg_address_elsewhere(uris[i]), "%s", uris[i]);
	ck_assert_str_eq(leg_address_inside("fault:read,hang:nbd://host/"), "nbd://host/");
	ck_assert_str_eq(leg_address_inside("fault:read"), "fault:read");
}
END_TEST

START_TEST(an_unknown_transport_is_named_with_those_that_are_known)
{
	struct error error;

	ck_assert_int_eq(refused("iscsi://host/target", BUILT_TRANSPORTS, &error), -EINVAL);
	says(error, "iscsi://");
	says(error, "nbd://HOST/EXPORT");
}
END_TEST

START_TEST(a_module_that_is_not_there_is_named_with_its_package)
{
	struct error error;

	ck_assert_int_eq(refused("nbd://localhost/", "/nonexistent", &error), -ELIBACC);
	says(error, "/nonexistent/leg-nbd.so");
	says(error, "install the package mirrorfs-nbd");
}
END_TEST

START_TEST(a_module_of_another_mirrorfs_is_not_used)
{
	struct error error;

	ck_assert_int_eq(refused("nbd://localhost/", FOREIGN_TRANSPORTS, &error), -ELIBBAD);
	says(error, "interface 4711, not 1");
	says(error, FOREIGN_TRANSPORTS "/leg-nbd.so");
}
END_TEST

START_TEST(no_module_is_loaded_any_more_when_the_right_to_a_network_was_given_up)
{
	struct error error;

	ck_assert(!leg_network_seal());
	ck_assert_int_eq(refused("nbd://localhost/", BUILT_TRANSPORTS, &error), -EPERM);
	says(error, "-o network");
}
END_TEST

START_TEST(who_asks_for_the_network_beforehand_has_it_later)
{
	struct error error = { "" };

	leg_transport_folder = BUILT_TRANSPORTS;
	ck_assert_msg(!leg_network(&error), "%s", error.text);
	ck_assert(leg_network_seal());
	ck_assert_int_eq(refused("nbd+unix:///?socket=/nonexistent", BUILT_TRANSPORTS, &error), -ENXIO);
	says(error, "/nonexistent");
}
END_TEST

Suite *transport_suite(void)
{
	Suite *suite = suite_create("transport");
	TCase *tests = tcase_create("transport");

	tcase_add_test(tests, an_address_is_a_path_or_a_uri);
	tcase_add_test(tests, an_unknown_transport_is_named_with_those_that_are_known);
	tcase_add_test(tests, a_module_that_is_not_there_is_named_with_its_package);
	tcase_add_test(tests, a_module_of_another_mirrorfs_is_not_used);
	tcase_add_test(tests, no_module_is_loaded_any_more_when_the_right_to_a_network_was_given_up);
	tcase_add_test(tests, who_asks_for_the_network_beforehand_has_it_later);
	suite_add_tcase(suite, tests);
	return suite;
}
