// SPDX-License-Identifier: Apache-2.0
// For cppcheck, which does not read the headers of libraries: loops that look like calls.
#define json_array_foreach(array, index, value) for (index = 0; (value = json_array_get(array, index)); index++)
#define json_object_foreach(object, key, value) while ((value = json_object_get(object, key)))
