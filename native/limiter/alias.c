// A library with nothing in it but its name and the need for the one that has the functions: dlsym on a
// handle of this one finds them there.
extern const int aliquot_alias;
const int aliquot_alias = 1;
