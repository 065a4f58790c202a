//! etcd's protocol definitions and the code generated from them.
