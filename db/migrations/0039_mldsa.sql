-- A witness's line with ML-DSA-44 has 3,244 characters of base64 and a name of up to 255 bytes.
alter table lineage.cosignature
    drop constraint cosignature_line_check,
    add constraint cosignature_line_check check (octet_length(line) <= 4000);
