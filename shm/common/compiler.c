/* The oldest compilers that build opald. The Makefile compiles this file before any other. */
#if defined(__clang__)
#if __clang_major__ < 14
#error "opald needs clang 14 or newer"
#endif
#elif defined(__GNUC__)
#if __GNUC__ < 12
#error "opald needs gcc 12 or newer"
#endif
#else
#error "opald needs gcc or clang"
#endif

_Static_assert(__atomic_always_lock_free(8, 0), "opald needs lock-free 64-bit atomics: processes share them");
