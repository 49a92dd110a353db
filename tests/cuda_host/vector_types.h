/* A stand-in for CUDA's header of this name: dim3 and short vectors. */
#ifndef RP_TESTS_VECTOR_TYPES_H
#define RP_TESTS_VECTOR_TYPES_H

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

/* Pairs and fours are aligned to their size, 16 bytes at most. */
#define RP_HOST_VECTORS(type, name)                                                                \
    struct alignas(2 * sizeof(type)) name##2                                                       \
    {                                                                                              \
        type x, y;                                                                                 \
    };                                                                                             \
    struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4                          \
    {                                                                                              \
        type x, y, z, w;                                                                           \
    };                                                                                             \
    static inline name##2 make_##name##2(type x, type y)                                           \
    {                                                                                              \
        return {x, y};                                                                             \
    }                                                                                              \
    static inline name##4 make_##name##4(type x, type y, type z, type w)                           \
    {                                                                                              \
        return {x, y, z, w};                                                                       \
    }
RP_HOST_VECTORS(signed char, char)
RP_HOST_VECTORS(unsigned char, uchar)
RP_HOST_VECTORS(short, short)
RP_HOST_VECTORS(unsigned short, ushort)
RP_HOST_VECTORS(int, int)
RP_HOST_VECTORS(unsigned, uint)
RP_HOST_VECTORS(float, float)
RP_HOST_VECTORS(long long, longlong)
RP_HOST_VECTORS(double, double)
#undef RP_HOST_VECTORS

#endif
