/* The loops of writing that run for every slice, compiled: the same as in wire.py and
   values.py, which explain them. Nothing here keeps an object or calls back into Python. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <string.h>

static unsigned char *
put_varint(unsigned char *at, unsigned long long value)
{
    while (value > 0x7F) {
        *at++ = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    *at++ = (unsigned char)value;
    return at;
}

static Py_ssize_t
varint_size(unsigned long long value)
{
    Py_ssize_t size = 1;
    while (value > 0x7F) {
        value >>= 7;
        size++;
    }
    return size;
}

PyDoc_STRVAR(timed_packets_doc, "timed_packets($module, times_ns, bodies, last_ns, /)\n--\n\n");

static PyObject *
timed_packets(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyList_Check(args[0]) || !PyList_Check(args[1])
        || PyList_GET_SIZE(args[0]) != PyList_GET_SIZE(args[1])) {
        PyErr_SetString(PyExc_TypeError, "expected two lists of one length and a time");
        return NULL;
    }
    PyObject *times = args[0], *bodies = args[1];
    Py_ssize_t number = PyList_GET_SIZE(times);
    /* Modulo 2^64: what goes back or beyond wraps, as int64 fields want it. */
    unsigned long long last_ns = PyLong_AsUnsignedLongLongMask(args[2]);
    if (PyErr_Occurred())
        return NULL;
    size_t most = 0;
    for (Py_ssize_t i = 0; i < number; i++) {
        PyObject *body = PyList_GET_ITEM(bodies, i);
        if (!PyBytes_Check(body) || !PyLong_Check(PyList_GET_ITEM(times, i))) {
            PyErr_SetString(PyExc_TypeError, "expected whole nanoseconds and bytes");
            return NULL;
        }
        most += (size_t)PyBytes_GET_SIZE(body) + 22; /* two keys, two longest varints */
    }
    if (most > PY_SSIZE_T_MAX)
        return PyErr_NoMemory();
    unsigned char *data = PyMem_Malloc(most ? most : 1), *at = data;
    if (data == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < number; i++) {
        PyObject *body = PyList_GET_ITEM(bodies, i);
        Py_ssize_t size = PyBytes_GET_SIZE(body);
        unsigned long long now_ns = PyLong_AsUnsignedLongLongMask(PyList_GET_ITEM(times, i));
        unsigned long long delta = now_ns - last_ns;
        last_ns = now_ns;
        *at++ = 0x0A; /* Trace.packet */
        at = put_varint(at, (unsigned long long)(1 + varint_size(delta) + size));
        *at++ = 0x40; /* TracePacket.timestamp */
        at = put_varint(at, delta);
        memcpy(at, PyBytes_AS_STRING(body), (size_t)size);
        at += size;
    }
    PyObject *packets = PyBytes_FromStringAndSize((char *)data, at - data);
    PyMem_Free(data);
    return packets;
}

enum { KEY_MOST = 16, FIELD_MOST = 2 + KEY_MOST + 12, PLAIN_MOST = 64 };

/* Puts the fields of tags that are known keys with plain values. Returns where they end;
   NULL if they are not all plain, or with an exception. */
static unsigned char *
put_tags(unsigned char *at, PyObject *tags, PyObject *keys, PyObject *texts)
{
    if (!PyDict_CheckExact(tags) || PyDict_GET_SIZE(tags) > PLAIN_MOST)
        return NULL;
    Py_ssize_t position = 0;
    PyObject *tag, *value;
    while (PyDict_Next(tags, &position, &tag, &value)) {
        if (!PyUnicode_CheckExact(tag))
            return NULL;
        PyObject *key = PyDict_GetItemWithError(keys, tag);
        if (key == NULL || !PyBytes_Check(key) || PyBytes_GET_SIZE(key) > KEY_MOST)
            return NULL;
        unsigned char *field = at + 2, *end = field;
        memcpy(end, PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
        end += PyBytes_GET_SIZE(key);
        if (PyLong_CheckExact(value)) {
            int beyond;
            long long whole = PyLong_AsLongLongAndOverflow(value, &beyond);
            if (beyond)
                return NULL;
            *end++ = 0x20; /* DebugAnnotation.int_value */
            end = put_varint(end, (unsigned long long)whole);
        }
        else if (PyBool_Check(value)) {
            *end++ = 0x10; /* bool_value */
            *end++ = value == Py_True;
        }
        else if (PyFloat_CheckExact(value) && !isnan(PyFloat_AS_DOUBLE(value))) {
            unsigned long long bits;
            double number = PyFloat_AS_DOUBLE(value);
            memcpy(&bits, &number, sizeof(bits));
            *end++ = 0x29; /* double_value, little-endian whatever the machine is */
            for (int byte = 0; byte < 8; byte++)
                *end++ = (unsigned char)(bits >> 8 * byte);
        }
        else if (PyUnicode_CheckExact(value)) {
            PyObject *iid = PyDict_GetItemWithError(texts, value);
            if (iid == NULL || !PyLong_CheckExact(iid))
                return NULL;
            *end++ = 0x88; /* string_value_iid */
            *end++ = 0x01;
            end = put_varint(end, PyLong_AsUnsignedLongLongMask(iid));
        }
        else
            return NULL;
        at[0] = 0x22; /* TrackEvent.debug_annotations */
        at[1] = (unsigned char)(end - field);
        at = end;
    }
    return at;
}

PyDoc_STRVAR(plain_event_doc,
"plain_event($module, key, fields, tags, keys, texts, /)\n\
--\n\
\n\
An event with tags that are known keys with plain values, else None.\n\
\n\
Args:\n\
    key: what comes before its length.\n\
    fields: what comes before its tags.\n\
    tags: a dict of text to anything.\n\
    keys: the field of each key that is known.\n\
    texts: the number of each text that is interned.");

static PyObject *
plain_event(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !PyBytes_Check(args[0]) || !PyBytes_Check(args[1])
        || !PyDict_Check(args[3]) || !PyDict_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "expected two texts of bytes and three dicts");
        return NULL;
    }
    unsigned char tags[PLAIN_MOST * FIELD_MOST];
    unsigned char *end = put_tags(tags, args[2], args[3], args[4]);
    if (end == NULL) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_NONE;
    }
    Py_ssize_t of_key = PyBytes_GET_SIZE(args[0]), of_fields = PyBytes_GET_SIZE(args[1]);
    unsigned long long size = (unsigned long long)(of_fields + (end - tags));
    PyObject *event = PyBytes_FromStringAndSize(
        NULL, of_key + varint_size(size) + (Py_ssize_t)size);
    if (event == NULL)
        return NULL;
    unsigned char *at = (unsigned char *)PyBytes_AS_STRING(event);
    memcpy(at, PyBytes_AS_STRING(args[0]), (size_t)of_key);
    at = put_varint(at + of_key, size);
    memcpy(at, PyBytes_AS_STRING(args[1]), (size_t)of_fields);
    memcpy(at + of_fields, tags, (size_t)(end - tags));
    return event;
}

static PyMethodDef methods[] = {
    {"timed_packets", (PyCFunction)(void (*)(void))timed_packets, METH_FASTCALL,
     timed_packets_doc},
    {"plain_event", (PyCFunction)(void (*)(void))plain_event, METH_FASTCALL,
     plain_event_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "perf._write._wire",
    .m_doc = "The inner loops of writing, compiled.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__wire(void)
{
    return PyModule_Create(&definition);
}
