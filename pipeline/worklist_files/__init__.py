"""The bookings as DICOM worklist files in a directory, for Orthanc's ModalityWorklists plugin and DCMTK's wlmscpfs."""
