/* The loops of writing that run for every slice, compiled: the same as in wire.py,
   values.py and rows.py, which explain them. Nothing here keeps an object or calls back
   into Python. */

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

/* Puts what comes before a packet's body of this size: its timestamp is no part of it. */
static unsigned char *
put_stamp(unsigned char *at, unsigned long long delta, Py_ssize_t size)
{
    *at++ = 0x0A; /* Trace.packet */
    at = put_varint(at, (unsigned long long)(1 + varint_size(delta) + size));
    *at++ = 0x40; /* TracePacket.timestamp */
    return put_varint(at, delta);
}

static unsigned char *
put_bytes(unsigned char *at, PyObject *bytes)
{
    memcpy(at, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    return at + PyBytes_GET_SIZE(bytes);
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
        unsigned long long now_ns = PyLong_AsUnsignedLongLongMask(PyList_GET_ITEM(times, i));
        at = put_stamp(at, now_ns - last_ns, PyBytes_GET_SIZE(body));
        at = put_bytes(at, body);
        last_ns = now_ns;
    }
    PyObject *packets = PyBytes_FromStringAndSize((char *)data, at - data);
    PyMem_Free(data);
    return packets;
}

enum {
    KEY_MOST = 16,                  /* bytes of what is put as it is */
    FIELD_MOST = 2 + KEY_MOST + 12, /* of a tag */
    PLAIN_MOST = 64,                /* tags */
    EVENT_MOST = 22 + KEY_MOST + 10 + 2 + KEY_MOST, /* bytes, tags aside */
};

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
        unsigned char *field = at + 2, *end = put_bytes(field, key);
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
    at = put_varint(put_bytes(at, args[0]), size);
    memcpy(put_bytes(at, args[1]), tags, (size_t)(end - tags));
    return event;
}

typedef struct {
    long long ns;
    long long id;
    PyObject *record; /* NULL: this is its END */
} Event;

static int
is_whole(PyObject *number, long long *value)
{
    int beyond = 1;
    if (PyLong_CheckExact(number))
        *value = PyLong_AsLongLongAndOverflow(number, &beyond);
    return !beyond;
}

/* Puts the two events of each record into the order of the file, as `_draw_nested` does.
   Returns how much the packets take at most; -1 if the records are not all plain. */
static Py_ssize_t
put_in_order(Event *events, PyObject *records, int nests)
{
    /* Filled from its end; a stack of those around grows from its front. Of n records
       k leave 2 (n - k) places between the two: in the end the stack lies right. */
    Py_ssize_t most = 0, first = 2 * PyList_GET_SIZE(records), depth = 0;
    for (Py_ssize_t i = PyList_GET_SIZE(records) - 1; i >= 0; i--) {
        PyObject *record = PyList_GET_ITEM(records, i);
        if (!PyTuple_CheckExact(record) || PyTuple_GET_SIZE(record) != 8)
            return -1;
        PyObject *tags = PyTuple_GET_ITEM(record, 6);
        Event begin = {.record = record}, end = {.record = NULL};
        long long kind;
        if (!is_whole(PyTuple_GET_ITEM(record, 1), &begin.ns)
            || !is_whole(PyTuple_GET_ITEM(record, 2), &end.ns)
            || !is_whole(PyTuple_GET_ITEM(record, 3), &begin.id)
            || !is_whole(PyTuple_GET_ITEM(record, 5), &kind) || kind > 3 /* QUEUED */
            || (tags != Py_None && !PyDict_CheckExact(tags))
            || PyTuple_GET_ITEM(record, 7) != Py_None)
            return -1;
        most += 2 * EVENT_MOST;
        if (tags != Py_None)
            most += PyDict_GET_SIZE(tags) * FIELD_MOST;
        while (depth > 0 && (!nests || begin.id < events[depth - 1].id))
            events[--first] = events[--depth];
        events[--first] = end;
        events[depth++] = begin;
    }
    return most;
}

/* Puts the packet of the BEGIN of a record. Returns where it ends; NULL if its name or
   tags are not known and plain, or with an exception. */
static unsigned char *
put_begin(unsigned char *at, unsigned long long delta, PyObject *record,
          PyObject *event_key, PyObject *names, PyObject *keys, PyObject *texts)
{
    PyObject *name = PyTuple_GET_ITEM(record, 0), *with = PyTuple_GET_ITEM(record, 6);
    if (!PyUnicode_CheckExact(name))
        return NULL;
    PyObject *named = PyDict_GetItemWithError(names, name);
    if (named == NULL || !PyBytes_Check(named) || PyBytes_GET_SIZE(named) > KEY_MOST)
        return NULL;
    unsigned char tags[PLAIN_MOST * FIELD_MOST], *end = tags;
    if (with != Py_None && (end = put_tags(tags, with, keys, texts)) == NULL)
        return NULL;
    Py_ssize_t of_tags = end - tags, size = 2 + PyBytes_GET_SIZE(named) + of_tags;
    Py_ssize_t of_size = varint_size((unsigned long long)size);
    at = put_stamp(at, delta, PyBytes_GET_SIZE(event_key) + of_size + size);
    at = put_varint(put_bytes(at, event_key), (unsigned long long)size);
    *at++ = 0x48; /* TrackEvent.type: BEGIN */
    *at++ = 0x01;
    at = put_bytes(at, named);
    memcpy(at, tags, (size_t)of_tags);
    return at + of_tags;
}

static unsigned char *
put_end(unsigned char *at, unsigned long long delta, PyObject *event_key)
{
    at = put_stamp(at, delta, PyBytes_GET_SIZE(event_key) + 3);
    at = put_bytes(at, event_key);
    *at++ = 0x02; /* bytes of the event */
    *at++ = 0x48; /* TrackEvent.type: END */
    *at++ = 0x02;
    return at;
}

PyDoc_STRVAR(plain_slices_doc,
"plain_slices($module, records, nests, since_ns, last_ns, event_key, names, keys,\n\
             texts, /)\n\
--\n\
\n\
The packets of slices of the commonest sort, else None.\n\
\n\
They have ended and bear no arrows, their names and tags are known and plain, and none\n\
begins at the time of another event, where an arrow could not be added later.\n\
\n\
Args:\n\
    records: n of them, in the order of closing.\n\
    nests: whether they may nest; else they must lie apart.\n\
    since_ns: none may begin earlier.\n\
    last_ns: what the first time counts from.\n\
    event_key: what comes before the length of an event.\n\
    names: the field of each name that is known.\n\
    keys: likewise of the keys of tags.\n\
    texts: the number of each text that is interned.");

static PyObject *
plain_slices(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    long long until_ns;
    if (count != 8 || !PyList_Check(args[0]) || !PyLong_Check(args[3])
        || !PyBytes_Check(args[4]) || PyBytes_GET_SIZE(args[4]) > KEY_MOST
        || !PyDict_Check(args[5]) || !PyDict_Check(args[6]) || !PyDict_Check(args[7])) {
        PyErr_SetString(PyExc_TypeError, "expected a list, two times, a key and dicts");
        return NULL;
    }
    unsigned long long last_ns = PyLong_AsUnsignedLongLongMask(args[3]);
    Py_ssize_t number = 2 * PyList_GET_SIZE(args[0]);
    Event *events = PyMem_New(Event, (size_t)number);
    if (events == NULL)
        return PyErr_NoMemory();
    unsigned char *data = NULL, *at;
    PyObject *packets = NULL;
    Py_ssize_t most = put_in_order(events, args[0], args[1] == Py_True);
    if (most < 0 || !is_whole(args[2], &until_ns))
        goto done;
    at = data = PyMem_Malloc(most ? (size_t)most : 1);
    if (data == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Event *event = events; event < events + number; event++) {
        unsigned long long delta = (unsigned long long)event->ns - last_ns;
        /* Nothing goes back. After a BEGIN, the last too, there is another event. */
        if (event->ns < until_ns || (event->record && event->ns == event[1].ns))
            goto done;
        if (event->record == NULL)
            at = put_end(at, delta, args[4]);
        else
            at = put_begin(at, delta, event->record, args[4], args[5], args[6], args[7]);
        if (at == NULL)
            goto done;
        until_ns = event->ns;
        last_ns = (unsigned long long)event->ns;
    }
    packets = PyBytes_FromStringAndSize((char *)data, at - data);
done:
    PyMem_Free(events);
    PyMem_Free(data);
    if (packets == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return packets;
}

static PyMethodDef methods[] = {
    {"timed_packets", (PyCFunction)(void (*)(void))timed_packets, METH_FASTCALL,
     timed_packets_doc},
    {"plain_event", (PyCFunction)(void (*)(void))plain_event, METH_FASTCALL,
     plain_event_doc},
    {"plain_slices", (PyCFunction)(void (*)(void))plain_slices, METH_FASTCALL,
     plain_slices_doc},
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
