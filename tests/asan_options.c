/* Defaults of AddressSanitizer for test programs: a request for too much memory returns NULL, as
 * malloc does, so that tests can see what the program makes of it. Unused in other builds. */
const char *__asan_default_options(void);

__attribute__((visibility("default"), used)) const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
